--- ledger: accounts for every event, from the journals of publishers and consumers.
---
--- Lost is what was confirmed, and neither handled nor with the dead letters at the end. Of a queue that was deleted,
--- what may have been in it then is gone by that act, and counted apart: what was asked before the deletion, and not
--- confirmed before a moment from which all had been handled. Out of order is a first delivery before that
--- of an earlier event of the same key; what the publisher itself published again after a failure has no place in the
--- order.

local flows = require "spec.chaos.flows"
local journal = require "spec.chaos.journal"

local ledger = {}

local Ledger = {}
Ledger.__index = Ledger

function ledger.new(folder)
  local self = setmetatable({ readers = {}, accounts = {}, suspects = {} }, Ledger)
  for _, flow in ipairs(flows) do
    self.accounts[flow.name] = { flow = flow, most = 0, asked = {}, confirmed = {}, failed = {}, again = {}, begun = {},
      handled = {}, dead = {}, letters = {}, last = {}, latest = 0, deletions = {},
      count = { published = 0, confirmed = 0, handled = 0, repeated = 0, failed = 0, again = 0 } }
  end
  self.folder = folder
  return self
end

function ledger.publisher_path(folder, flow) return ("%s/%s.published"):format(folder, flow.name) end
function ledger.consumer_path(folder, flow, i) return ("%s/%s.%d.consumed"):format(folder, flow.name, i) end

local visit = {}

-- An event that was handled tells how new what arrives is.
local function arrived(account, n)
  local asked = account.asked[n]
  if asked and account.handled[n] and asked > account.latest then account.latest = asked end
end

function visit.A(account, n, time)
  account.asked[n] = time
  account.most = math.max(account.most, n)
  account.count.published = account.count.published + 1
  arrived(account, n)
end

function visit.R(account, n, time)
  account.asked[n], account.again[n] = time, true
  account.count.again = account.count.again + 1
end

function visit.C(account, n, time)
  if not account.confirmed[n] then account.count.confirmed = account.count.confirmed + 1 end
  account.confirmed[n] = time
end

function visit.F(account, n, _, code)
  account.failed[n] = code
  account.count.failed = account.count.failed + 1
end

function visit.B(account, n, time, _, self)
  if account.begun[n] then return end
  account.begun[n] = time
  local key = flows.key(account.flow, n)
  local last = account.last[key]
  if account.flow.ordered and last and n < last then
    self.suspects[#self.suspects + 1] = { account = account, n = n, after = last, time = time }
  else
    account.last[key] = n
  end
end

function visit.H(account, n)
  if account.handled[n] then
    account.count.repeated = account.count.repeated + 1
  else
    account.count.handled = account.count.handled + 1
  end
  account.handled[n] = true
  arrived(account, n)
end

function visit.D(account, n) account.dead[n] = true end
function visit.X() end

--- Takes in what the journals have more since the last call.
function Ledger:read()
  for _, flow in ipairs(flows) do
    local paths = { ledger.publisher_path(self.folder, flow) }
    for i = 1, #flow.consumers do paths[i + 1] = ledger.consumer_path(self.folder, flow, i) end
    for _, path in ipairs(paths) do
      self.readers[path] = self.readers[path] or journal.reader(path)
      self.readers[path]:read(function(kind, time, id, rest)
        local name, n = flows.parse(id)
        visit[kind](self.accounts[name], n, time, rest, self)
      end)
    end
  end
end

--- The flow that has handled nothing yet of what was published after `time`; nil when all have. Those for which
--- `without(flow)` is true are not asked.
function Ledger:behind(time, without)
  for _, flow in ipairs(flows) do
    if self.accounts[flow.name].latest <= time and not without(flow) then return flow.name end
  end
end

--- A queue was deleted. What the broker had before `clear` had been handled by then; all it took in between that and
--- `now` may have been in the queue.
function Ledger:deleted(flow, clear, now)
  local deletions = self.accounts[flow.name].deletions
  deletions[#deletions + 1] = { clear = clear, now = now }
end

--- An event found with the dead letters.
function Ledger:letter(id)
  local name, n = flows.parse(id)
  if name and self.accounts[name] then self.accounts[name].letters[n] = true end
end

local function excused(account, n)
  for _, deletion in ipairs(account.deletions) do
    if account.confirmed[n] >= deletion.clear and account.asked[n] <= deletion.now then return true end
  end
  return false
end

--- What the journals know of an event, and when, in seconds since `began`: for whoever asks why it was lost.
function Ledger:story(id, began)
  local name, n = flows.parse(id)
  local account, words = self.accounts[name], {}
  local function add(what, time)
    words[#words + 1] = time and ("%s %.3f"):format(what, time - began) or "not " .. what
  end
  add(account.again[n] and "asked again" or "asked", account.asked[n])
  add("confirmed", account.confirmed[n])
  add("begun", account.begun[n])
  for _, deletion in ipairs(account.deletions) do
    add("all before it handled", deletion.clear)
    add("queue deleted", deletion.now)
  end
  return ("%s: %s"):format(id, table.concat(words, ", "))
end

--- How many confirmed events are neither handled nor given to the dead letters, those of deleted queues aside.
function Ledger:open()
  local open = 0
  for _, account in pairs(self.accounts) do
    for n in pairs(account.confirmed) do
      if not account.handled[n] and not account.dead[n] and not excused(account, n) then open = open + 1 end
    end
  end
  return open
end

--- The sums, and lists of what must not be: lost, disordered, stray (with the dead letters against the handler's
--- will).
function Ledger:verdict()
  local total = { published = 0, confirmed = 0, handled = 0, repeated = 0, failed = 0, again = 0, dead = 0, gone = 0,
    lost = {}, disordered = {}, stray = {} }
  for _, flow in ipairs(flows) do
    local account = self.accounts[flow.name]
    for key, n in pairs(account.count) do total[key] = total[key] + n end
    for n = 1, account.most do
      if account.letters[n] then total.dead = total.dead + 1 end
      if account.letters[n] and not account.dead[n] then total.stray[#total.stray + 1] = flows.id(flow, n) end
      if account.confirmed[n] and not account.handled[n] and not account.letters[n] then
        if excused(account, n) then
          total.gone = total.gone + 1
        else
          total.lost[#total.lost + 1] = flows.id(flow, n)
        end
      end
    end
  end
  for _, suspect in ipairs(self.suspects) do
    if not suspect.account.again[suspect.n] then
      total.disordered[#total.disordered + 1] = ("%s after %d at %.6f"):format(
        flows.id(suspect.account.flow, suspect.n), suspect.after, suspect.time)
    end
  end
  return total
end

return ledger
