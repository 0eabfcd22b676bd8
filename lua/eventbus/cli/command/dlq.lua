--- eventbus dlq: dead letters: list, show, replay, move, purge. The work is done by eventbus.deadletters.

local connection = require "eventbus.cli.connection"

local dlq = { summary = "Look into dead letters, replay, move or purge them." }

-- A replay outlives a restart of the broker.
local PATIENCE = 60
local MANY = 100
local BROWSED = 1000

local LOOKING = [[
Looking takes nothing: messages stay unacknowledged while they are read, and go
back to their places. The broker marks them as redelivered, and a quorum queue
counts it as a delivery (up to RabbitMQ 4.2): where it has a delivery limit, do
not look often.]]

local function selecting(sub, rate)
  require("eventbus.cli.letters").options(sub)
  if rate then
    sub:option("--rate", "So many a second, minute or hour: 5/s, 100/m. Default: as fast as it goes."):argname("RATE")
      :convert(require("eventbus.pace").rate)
  end
  sub:flag("-n --dry-run", "Only say how many.")
  sub:flag("-y --yes", "Do not ask.")
  sub:flag("--json", "The result as JSON.")
end

function dlq.define(parser)
  parser:require_command(true):command_target("action")
  local list = parser:command("list", "Dead-letter queues: how many messages, for which reasons.")
    :summary("The queues, with counts and reasons.")
  list:argument("queue", "Queues; default: those of the topology that exist, and deadletter.* of its queues."):args("*")
  list:option("--limit", ("Look at up to so many messages of each queue; default %d, 0: only count."):format(BROWSED))
    :argname("N"):convert(connection.count(0)):default(tostring(BROWSED))
  list:flag("--json", "One JSON value.")
  require("eventbus.cli.topologies").option(list)
  list:epilog(LOOKING .. [[


With --management or $RABBITMQ_MANAGEMENT_URL every queue named deadletter.* is
listed, also one that no topology has.]])

  local show = parser:command("show", "The dead letters of a queue, oldest first."):summary("Show each one.")
  show:argument("queue", "The queue.")
  show:argument("event", "Only the one with this event id."):args("?"):argname("ID")
  require("eventbus.cli.letters").options(show, "At most so many; default 10.")
  show:flag("--json", "One JSON object a line: event, headers, history.")
  show:epilog(LOOKING .. "\n\n" .. require("eventbus.cli.letters").WHERE_HELP)

  local replay = parser:command("replay", "Publish dead letters again where they were first published.")
    :summary("Publish them again.")
  replay:argument("queue", "The queue they are in.")
  replay:flag("--to-queue", "Only to the queue where each failed, not to the exchange it was published to.")
  selecting(replay, true)
  replay:epilog([[
The exchange gives an event to all its queues again, also to those that had
handled it; --to-queue does not. Each is confirmed first and only then removed
from here: whatever interrupts, none is lost, and what was under way may come
twice with the same id. What no queue takes stays here. Attempts start anew; the
header x-eventbus-replays counts replays. It ends after as many as were there at
the start: what fails again meanwhile is not replayed again.

]] .. require("eventbus.cli.letters").WHERE_HELP .. [[


  eventbus dlq replay deadletter.search.products --where 'attempts > 3']])

  local move = parser:command("move", "Move dead letters to another queue, annotations kept.")
    :summary("Move them to another queue.")
  move:argument("queue", "The queue they are in.")
  move:argument("destination", "An existing queue.")
  selecting(move, true)
  move:epilog(require("eventbus.cli.letters").WHERE_HELP)

  local purge = parser:command("purge", "Remove dead letters for good; shows them first and asks.")
    :summary("Remove them for good.")
  purge:argument("queue", "The queue.")
  selecting(purge, false)
  purge:epilog("What comes in after it has begun is not removed.\n\n" .. require("eventbus.cli.letters").WHERE_HELP)

  for _, sub in ipairs { list, show, replay, move, purge } do
    connection.options(sub)
  end
  connection.management_option(list)
end

-- list

local function queues_of(args)
  local exit = require "eventbus.cli.exit"
  if #args.queue > 0 then return args.queue, true end
  local topology = require("eventbus.cli.topologies").normal(args)
  local names = require("eventbus.deadletters").queues(topology)
  local env = os.getenv("RABBITMQ_MANAGEMENT_URL")
  if args.management or (env and env ~= "") then
    local known = {}
    for _, name in ipairs(names) do known[name] = true end
    for _, queue in ipairs(exit.check(connection.management(args):queues())) do
      if queue.name:find("^deadletter%.") and not known[queue.name] then names[#names + 1] = queue.name end
    end
    table.sort(names)
  end
  return names, false
end

local function look_into(bus, name, limit, caught)
  local info, err = bus:queue_info(name)
  if not info then return nil, err end
  local found = { queue = name, messages = info.messages, consumers = info.consumers,
    groups = require("eventbus.cli.letters").groups() }
  if limit > 0 and info.messages > 0 then
    local result
    result, err = require("eventbus.deadletters").browse(bus, name, function(l) found.groups:add(l) end,
      { limit = limit, stop = function() return caught:came() end })
    if not result then return nil, err end
    found.err = result.err
  end
  return found
end

-- Names what could not be looked into to its end; the exit code.
local function say_unseen(err, found)
  local exit = require "eventbus.cli.exit"
  local code = exit.OK
  for _, q in ipairs(found) do
    if q.err then
      err:line("eventbus: cannot look into ", q.queue, ": ", q.err.message)
      code = exit.FAILED
    end
  end
  return code
end

local function write_list(out, found)
  local letters = require "eventbus.cli.letters"
  local rows = { { "QUEUE", "MESSAGES", "CONSUMERS", "OLDEST" } }
  for _, q in ipairs(found) do
    rows[#rows + 1] = { q.queue, q.messages, q.consumers, q.messages == 0 and "-" or letters.age(q.groups.oldest) }
  end
  out:rows(rows, { [2] = true, [3] = true, [4] = true })
  for _, q in ipairs(found) do
    if q.groups.count > 0 then
      local part = q.groups.count < q.messages and (", the oldest %d"):format(q.groups.count) or ""
      out:write("\n", out:style("bold", q.queue), part, "\n")
      q.groups:write(out)
    end
  end
end

local function list_queues(args, cli, bus, caught)
  local json = require "eventbus.json"
  local exit = require "eventbus.cli.exit"
  local names, named = queues_of(args)
  local found = {}
  for _, name in ipairs(names) do
    local one, err = look_into(bus, name, args.limit, caught)
    if one then
      found[#found + 1] = one
    elseif named or err.code ~= "not_found" then
      error(exit.of_error(err), 0)
    end
    if caught:came() then return caught:code() end
  end
  if args.json then
    local value = json.array {}
    for i, q in ipairs(found) do
      value[i] = { queue = q.queue, messages = q.messages, consumers = q.consumers, looked_at = q.groups.count,
        oldest = q.groups.oldest, groups = q.groups:values(), error = q.err and tostring(q.err) }
    end
    cli.out:line((assert(json.encode({ queues = value }, { sort_keys = true }))))
    return say_unseen(cli.err, found)
  end
  if #found == 0 then
    cli.err:line("no dead-letter queue of the topology exists; name one, or give --topology or --management")
    return
  end
  write_list(cli.out, found)
  return say_unseen(cli.err, found)
end

-- show

local function queue_of(bus, name)
  local info, err = bus:queue_info(name)
  if info then return info end
  local failure = require("eventbus.cli.exit").of_error(err)
  if err.code == "not_found" then failure.hint = "eventbus dlq list shows the dead-letter queues of the topology" end
  error(failure, 0)
end

local function show(args, cli, bus, caught)
  local exit, letters = require "eventbus.cli.exit", require "eventbus.cli.letters"
  if args.event then args.id = { args.event } end
  local shown = 0
  queue_of(bus, args.queue)
  local result = exit.check(require("eventbus.deadletters").browse(bus, args.queue, function(l)
    if args.json then cli.out:line(letters.json(letters.value(l))) else letters.write(cli.out, l) end
    shown = shown + 1
  end, { select = letters.selection(args), limit = args.event and 1 or args.limit or 10,
    stop = function() return caught:came() end }))
  cli.out:flush()
  if result.err then error(exit.of_error(result.err, "cannot read on in " .. args.queue), 0) end
  if caught:came() then return caught:code() end
  if args.event and shown == 0 then
    exit.fail(("no message with the id %s in %s (%d were looked at)"):format(args.event, args.queue, result.looked))
  end
  if not args.json and shown < result.there then
    cli.err:line(("%d of %d shown%s"):format(shown, result.there,
      shown == (args.limit or 10) and "; --limit shows more" or ""))
  end
end

-- replay, move, purge

local DONE = { replay = "replayed", move = "moved", purge = "removed" }

local function say_failures(err, result)
  local letters = require "eventbus.cli.letters"
  for _, failure in ipairs(result.failures) do
    err:line(("  %d stayed: %s (%s%s)"):format(failure.count, letters.one_line(failure.message),
      letters.one_line(table.concat(failure.ids, ", ")), failure.count > #failure.ids and ", ..." or ""))
    if failure.code == "unknown_origin" then err:line("    eventbus dlq move sends them to a queue of your choice") end
  end
end

local function summary(args, cli, result, caught)
  local exit, json = require "eventbus.cli.exit", require "eventbus.json"
  local verb = DONE[args.action]
  if args.json then
    local value = { queue = result.queue, there = result.there, looked_at = result.looked, chosen = result.chosen,
      dry_run = args.dry_run or false, interrupted = result.stopped or false, kept = result.kept, left = result.left,
      may_come_twice = result.repeated, failures = json.array(result.failures), done = result.done,
      error = result.err and tostring(result.err) }
    cli.out:line((require("eventbus.cli.letters").json(value)))
  elseif args.dry_run then
    cli.out:line(("%d of %d would be %s (%d looked at)"):format(result.chosen, result.there, verb, result.looked))
  else
    cli.out:line(("%d of %d %s%s, %d stay in %s"):format(result.done, result.there, verb,
      args.destination and " to " .. args.destination or "", result.left, result.queue))
  end
  say_failures(cli.err, result)
  if result.repeated > 0 then
    cli.err:line(("  %d were under way when it was cut off: they may come twice, with the same id"):format(result.repeated))
  end
  if result.err then error(exit.of_error(result.err, "stopped before the end"), 0) end
  if result.stopped then
    cli.err:line("interrupted: nothing is lost, the same command goes on where this one ended")
    return caught:code()
  end
  return result.kept > 0 and exit.FAILED or exit.OK
end

-- What would be removed, by reason; how many are meant.
local function preview(args, cli, bus, select, caught)
  local exit, letters = require "eventbus.cli.exit", require "eventbus.cli.letters"
  local groups = letters.groups()
  local result = exit.check(require("eventbus.deadletters").browse(bus, args.queue, function(l) groups:add(l) end,
    { select = select, limit = args.limit or (not select and BROWSED) or nil,
      stop = function() return caught:came() end }))
  if result.err then error(exit.of_error(result.err, "cannot look into " .. args.queue), 0) end
  if groups.count > 0 then groups:write(cli.err) end
  local meant = result.chosen
  if not select then meant = math.min(args.limit or result.there, result.there) end
  return meant, result
end

-- False: the answer was no. With it how many are meant, and the look at them, when there was one.
local function may_begin(args, cli, bus, select, caught, there)
  local exit, question = require "eventbus.cli.exit", require "eventbus.cli.question"
  if args.dry_run or args.yes then return true end
  if args.action == "purge" then
    if not question.possible(cli) then
      exit.fail("nothing was removed: nobody is there to ask", "look at them with --dry-run or dlq show; --yes removes them")
    end
    local meant, look = preview(args, cli, bus, select, caught)
    if caught:came() or meant == 0 then return true, meant, look end
    return question.ask(cli, ("Remove %d of %d messages of %s for good?"):format(meant, there, args.queue)), meant, look
  end
  local most = math.min(args.limit or there, there)
  if most <= MANY or not question.possible(cli) then return true end
  return question.ask(cli, ("%s %s%d dead letters of %s?"):format(args.action == "move" and "Move" or "Replay",
    select and "up to " or "", most, args.queue))
end

local function work(args, cli, bus, caught)
  local exit, deadletters = require "eventbus.cli.exit", require "eventbus.deadletters"
  local select = require("eventbus.cli.letters").selection(args)
  if args.destination == args.queue then exit.misuse("the destination is the queue itself") end
  local there = queue_of(bus, args.queue).messages
  if args.destination then queue_of(bus, args.destination) end
  local may, meant, look = may_begin(args, cli, bus, select, caught, there)
  if not may then
    cli.err:line("nothing was done")
    return exit.FAILED
  end
  -- Nobody was asked about what has come since.
  if meant == 0 then return summary(args, cli, look, caught) end
  local total = select and there or math.min(args.limit or there, there)
  local bar = cli.err:bar(args.action, total)
  local options = {
    select = select, limit = meant or args.limit, rate = args.rate,
    dry_run = args.dry_run, stop = function() return caught:came() end,
    progress = function(result) bar:update(select and result.looked or result.done + result.kept) end,
  }
  local result, err
  if args.action == "replay" then
    options.to_queue = args.to_queue
    result, err = deadletters.replay(bus, args.queue, options)
  elseif args.action == "move" then
    result, err = deadletters.move(bus, args.queue, args.destination, options)
  else
    result, err = deadletters.remove(bus, args.queue, options)
  end
  bar:finish()
  return summary(args, cli, exit.check(result, err), caught)
end

function dlq.run(args, cli)
  local exit = require "eventbus.cli.exit"
  if args.action ~= "list" then require("eventbus.cli.letters").selection(args) end  -- a mistake in it comes first
  local lasting = args.action ~= "list" and args.action ~= "show"
  local patience = lasting and math.max(args.timeout or 0, PATIENCE) or nil
  local bus = connection.open(args, lasting and { timeout = patience, publish_timeout = patience } or nil)
  local caught = require("eventbus.cli.interruption").catch(bus)
  local actions = { list = list_queues, show = show, replay = work, move = work, purge = work }
  local ok, code = pcall(actions[args.action], args, cli, bus, caught)
  caught:release()
  bus:close()
  if not ok then error(code, 0) end
  return code or exit.OK
end

return dlq
