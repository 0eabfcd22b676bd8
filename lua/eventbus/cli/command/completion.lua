--- eventbus completion: the completion script of a shell, on stdout.

local completion = { summary = "Print a shell's completion script." }

function completion.define(parser)
  parser:argument("shell", "bash, zsh or fish"):choices { "bash", "zsh", "fish" }
  parser:epilog([[
Where a user's own go:
  bash  ~/.local/share/bash-completion/completions/eventbus
  zsh   _eventbus, in a folder of $fpath
  fish  ~/.config/fish/completions/eventbus.fish]])
end

function completion.run(args, cli)
  local parser = require("eventbus.cli").parser()
  cli.out:write(parser["get_" .. args.shell .. "_complete"](parser))
end

return completion
