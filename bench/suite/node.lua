--- node: the private broker that all clients are measured on, and what is asked of it behind their backs.

local shell = require "bench.suite.shell"

local node = {}
node.__index = node

--- Returns when it takes connections. However this process ends, its guard stops the broker and removes the folder.
function node.start()
  local dir = shell.output 'mktemp -d "${TMPDIR:-/tmp}/eventbus-bench.XXXXXX"'
  local self = setmetatable({ dir = dir }, node)
  self.guard = assert(io.popen("exec bin/eventbus-broker guard " .. shell.quote(dir) .. " >/dev/null 2>&1", "w"))
  self.url = shell.output("bin/eventbus-broker start " .. shell.quote(dir)):match "AMQP_URL=(%S+)"
    or error("the broker did not start", 0)
  return self
end

function node:stop() self.guard:close() end

--- Evaluates Erlang in the node: the printed term.
function node:eval(expression)
  return shell.output(("bin/eventbus-broker eval %s %s"):format(shell.quote(self.dir), shell.quote(expression)))
end

--- Deletes all queues: one measurement leaves the next no work.
function node:clear()
  self:eval [[lists:foreach(fun(Q) -> catch rabbit_amqqueue:delete(Q, false, false, <<"bench">>) end,
    rabbit_amqqueue:list(<<"/">>)), ok]]
end

local COUNT = [[Consumers = fun() -> {ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
  [{consumers, C}] = rabbit_amqqueue:info(Q, [consumers]), C end,
  Wait = fun Wait(Done, Left) -> case Done(Consumers()) of
    true -> true; false when Left =< 0 -> false; false -> timer:sleep(5), Wait(Done, Left - 5) end end, ]]

--- Breaks all connections, as a network does, and waits until `queue` has `count` consumers again: milliseconds, or nil
--- when they are not there after a minute.
function node:reconnected(queue, count)
  self:eval(COUNT:format(queue) .. ([[persistent_term:put(bench_began, erlang:monotonic_time(microsecond)),
    [exit(P, kill) || P <- rabbit_networking:connections()], Wait(fun(C) -> C < %d end, 10000)]]):format(count))
  for _ = 1, 3 do
    local us = self:eval(COUNT:format(queue) .. ([[case Wait(fun(C) -> C =:= %d end, 20000) of
      true -> erlang:monotonic_time(microsecond) - persistent_term:get(bench_began); false -> none end]]):format(count))
    if tonumber(us) then return tonumber(us) / 1000 end
  end
end

-- What bin/eventbus-broker has set, of the node's own file and environment; but not where it listens.
function node:settings()
  local list = {}
  for line in io.lines(self.dir .. "/rabbitmq.conf") do
    if not line:find "^listeners%." then list[#list + 1] = line end
  end
  local pid = shell.output("cat " .. shell.quote(self.dir .. "/node.pid"))
  local arguments = shell.output("tr '\\0' '\\n' </proc/" .. pid
    .. "/environ | sed -n 's/^RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=//p'")
  return table.concat(list, ", "), arguments
end

--- What it is: for the head of the report.
function node:description()
  local settings, arguments = self:settings()
  return {
    settings = settings, arguments = arguments,
    rabbitmq = self:eval "rabbit_misc:version()":match "[%d.]+",
    erlang = self:eval "erlang:system_info(otp_release)":match "%d+",
    schedulers = self:eval "erlang:system_info(schedulers_online)",
  }
end

return node
