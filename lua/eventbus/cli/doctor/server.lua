--- The broker itself: version, what was agreed with it, its nodes, and what it still does that RabbitMQ is giving up.

local server = {}

local function version_of(text)
  local major, minor = text:match("(%d+)%.(%d+)")
  return tonumber(major), tonumber(minor)
end

local function look_at_version(report, said)
  local major, minor = version_of(said)
  if not major then return report:ok("version", said) end
  if major < 4 then
    report:warn("version", ("%s: RabbitMQ 3 is out of community support"):format(said),
      minor < 13 and "plan the way to RabbitMQ 4: to 3.13 first, enable all feature flags, then on"
        or "plan the way to RabbitMQ 4: enable all feature flags first")
  else
    report:ok("version", said)
  end
end

-- What both sides agreed on for this connection.
local function look_at_agreement(report, stats)
  if stats.heartbeat == 0 then
    report:warn("heartbeat", "none: a dead connection is noticed by nobody for minutes",
      "heartbeat=60 in the URL; heartbeat = 60 in rabbitmq.conf")
  elseif stats.heartbeat > 120 then
    report:warn("heartbeat", ("%d s: a dead connection is noticed after twice that"):format(stats.heartbeat),
      "a smaller heartbeat, in the URL or in rabbitmq.conf; 60 is common")
  else
    report:ok("heartbeat", ("%d s"):format(stats.heartbeat))
  end
  if stats.frame_max > 0 and stats.frame_max < 8192 then
    report:warn("frame_max", ("%d bytes: headers of retries and dead letters hardly fit"):format(stats.frame_max),
      "frame_max = 131072 in rabbitmq.conf")
  else
    report:ok("frame_max", ("%d bytes"):format(stats.frame_max))
  end
end

--- What AMQP tells.
---@param report eventbus.cli.Report
---@param bus eventbus.Bus
function server.by_amqp(report, bus)
  local stats = bus:stats().core.control
  look_at_version(report, stats.server)
  look_at_agreement(report, stats)
end

local function size(bytes)
  if bytes >= 1e9 then return ("%.1f GB"):format(bytes / 1e9) end
  return ("%.0f MB"):format(bytes / 1e6)
end

local function number(value) return type(value) == "number" and value or nil end

local function look_at_memory(report, node)
  local used, limit = number(node.mem_used), number(node.mem_limit)
  if node.mem_alarm == true then
    report:error("memory", ("%s: the memory alarm is on, nobody can publish"):format(node.name),
      "consume or purge, find what holds the memory (rabbitmq-diagnostics memory_breakdown), or give it more")
  elseif used and limit and limit > 0 then
    local text = ("%s uses %s, the alarm comes at %s"):format(node.name, size(used), size(limit))
    if used > 0.8 * limit then
      report:warn("memory", text, "consume, or raise vm_memory_high_watermark, before publishers are blocked")
    else
      report:ok("memory", text)
    end
  end
end

local function look_at_disk(report, node)
  local free, limit = number(node.disk_free), number(node.disk_free_limit)
  if node.disk_free_alarm == true then
    report:error("disk", ("%s: the disk alarm is on, nobody can publish"):format(node.name),
      "free space on the broker's disk")
  elseif free and limit then
    local text = ("%s has %s free, the alarm comes at %s"):format(node.name, size(free), size(limit))
    if free < 2 * limit then
      report:warn("disk", text, "free space on the broker's disk, before publishers are blocked")
    else
      report:ok("disk", text)
    end
  end
end

local function look_at_node(report, node)
  if node.running == false then
    return report:error("node", ("%s does not run"):format(node.name), "start it, or rabbitmqctl forget_cluster_node")
  end
  if type(node.partitions) == "table" and #node.partitions > 0 then
    report:error("partition", ("%s is cut off from %s"):format(node.name, table.concat(node.partitions, ", ")),
      "mend the network, then restart the smaller side; cluster_partition_handling = pause_minority")
  end
  look_at_memory(report, node)
  look_at_disk(report, node)
  local used, total = number(node.fd_used), number(node.fd_total)
  if used and total and total > 0 and used > 0.8 * total then
    report:warn("descriptors", ("%s uses %d of %d file descriptors"):format(node.name, used, total),
      "raise the limit of open files (LimitNOFILE), or find who opens connections and does not close them")
  end
end

local function look_at_nodes(report, api)
  local nodes, err = api:get("/nodes")
  if not nodes then
    return report:unseen("nodes", "alarms, memory and disk: " .. err.message,
      "a user with the tag monitoring can see them")
  end
  for _, node in ipairs(nodes) do look_at_node(report, node) end
end

local function look_at_policies(report, api)
  local policies = api:policies()
  if not policies then
    return report:unseen("policies", "classic mirrored queues", "a user with the tag policymaker can see policies")
  end
  local mirrored = {}
  for _, policy in ipairs(policies) do
    if type(policy.definition) == "table" and policy.definition["ha-mode"] then
      mirrored[#mirrored + 1] = policy.name
    end
  end
  if #mirrored > 0 then
    report:warn("mirroring", "classic mirrored queues by policy %s: RabbitMQ 4 has none, such a queue is then on one node",
      'type = "quorum" for those queues in the topology, and the policy goes', mirrored)
  end
end

local function look_at_channels(report, api)
  local channels = api:get(api:path("vhosts") .. "/channels")
  if type(channels) ~= "table" then
    return report:unseen("global qos", "whether a client still uses it", "a user with the tag monitoring can see channels")
  end
  local with = {}
  for _, channel in ipairs(channels) do
    if (number(channel.global_prefetch_count) or 0) > 0 then with[#with + 1] = tostring(channel.name) end
  end
  if #with > 0 then
    report:warn("global qos", "used by %s: RabbitMQ 4 refuses it", "basic.qos with global = false in those clients", with)
  end
end

-- RabbitMQ 3.13 and later count it themselves.
local function look_at_deprecated(report, api)
  local used = api:get("/deprecated-features/used")
  for _, feature in ipairs(type(used) == "table" and used or {}) do
    report:warn("deprecated", ("%s is used: %s"):format(tostring(feature.name),
      tostring(feature.desc or feature.state or "")),
      "see " .. tostring(feature.doc_url or "https://www.rabbitmq.com/release-information/deprecated-features-list"))
  end
end

--- What the management API tells.
---@param report eventbus.cli.Report
---@param api eventbus.Management
function server.by_management(report, api)
  look_at_nodes(report, api)
  look_at_policies(report, api)
  look_at_channels(report, api)
  look_at_deprecated(report, api)
end

server.look_at_node, server.look_at_version, server.look_at_agreement = look_at_node, look_at_version, look_at_agreement

return server
