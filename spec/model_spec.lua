--- The models of spec/model speak of the code that there is: their states are its states, under its names.

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- Comments name things too.
local function code_of(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = read((select(i, ...))):gsub("/%*.-%*/", "") end
  return table.concat(parts, "\n")
end

local publish, handover = code_of("spec/model/publish.pml"), code_of("spec/model/handover.pml")
local session = code_of("src/eb_session.h", "src/eb_session_priv.h", "src/eb_session.c", "src/eb_session_channel.c",
  "src/eb_session_connection.c", "src/eb_session_publish.c")
local headers = code_of("src/eb_item.h", "src/eb_error.h", "src/eb_link.h") .. session

local function names_in(list)
  local set = {}
  for name in list:gmatch("[%w_]+") do set[name] = true end
  return set
end

local function states_of(model, kind)
  return names_in(assert(model:match("mtype:" .. kind .. " = {(.-)}"), "no mtype " .. kind))
end

local function constants_of(enum)
  return names_in(assert(headers:match("typedef enum " .. enum .. " {(.-)}"), "no enum " .. enum))
end

describe("the models' states", function()
  for _, case in ipairs {
    { publish, "eb_phase" }, { publish, "channel_state" }, { publish, "eb_link_state" }, { handover, "eb_settlement" },
  } do
    it("are all of enum " .. case[2], function()
      assert.are.same(constants_of(case[2]), states_of(case[1], case[2]))
    end)
  end

  it("are answers that there are, among them all that the publisher gives", function()
    local known, answers = constants_of("eb_code"), states_of(publish, "eb_code")
    for name in pairs(answers) do assert.is_true(known[name], name) end
    local publisher = code_of("src/eb_session_publish.c")
    for name in publisher:gmatch("EB_ERR_[%u_]+") do
      -- None is an answer to a confirmed event: the process has no memory, the broker broke the protocol, it has no
      -- channel for publishes without a confirm, which the model leaves out; the connection is given up, and the model
      -- loses it at any time.
      local other = { EB_ERR_NO_MEMORY = true, EB_ERR_PROTOCOL = true, EB_ERR_NOT_ALLOWED = true, EB_ERR_CONNECTION = true }
      if not other[name] then assert.is_true(answers[name], name) end
    end
  end)

  it("are those of a handover", function()
    local given = { declaring = true }
    for name in read("lua/eventbus/handover.lua"):gmatch('%.state = "([%w_]+)"') do given[name] = true end
    assert.are.same(given, states_of(handover, "handover"))
  end)

  it("are AMQP's methods, as the session reads and writes them", function()
    for name in pairs(states_of(publish, "method")) do
      assert.is_truthy(session:find("AMQP_" .. name .. "_METHOD", 1, true) or name == "BASIC_PUBLISH", name)
    end
    assert.is_truthy(code_of("src/eb_codec.c"):find("AMQP_BASIC_PUBLISH_METHOD", 1, true))
  end)

  it("leave out no kind of state", function()
    local compared = { eb_phase = 1, channel_state = 1, eb_link_state = 1, eb_settlement = 1, eb_code = 1, handover = 1,
      method = 1,
      -- The models' own: where a publish or a copy is, and what becomes of an event.
      place = 1, nature = 1 }
    for kind in (publish .. handover):gmatch("mtype:([%w_]+) = {") do assert.is_truthy(compared[kind], kind) end
  end)
end)

describe("the models' steps", function()
  it("bear the names of the functions they stand for", function()
    local sources = session .. code_of("src/eb_window.c", "src/eb_acks.c")
    for _, name in ipairs { "answer_confirmed", "on_confirm", "send_again", "lose", "publisher_closed", "send_first",
      "clear", "drop_confirmed" } do
      assert.is_truthy(publish:find("inline " .. name .. " (", 1, true), name)
      assert.is_truthy(sources:find("%f[%w_]" .. name .. " %([^;{}]*{"), name)
    end
    for _, name in ipairs { "due", "publish", "hand_over", "settle" } do
      assert.is_truthy(handover:find("inline " .. name .. " (", 1, true), name)
    end
    local lua = read("lua/eventbus/handover.lua")
    assert.is_truthy(lua:find("function Handover:due()", 1, true))
  end)
end)

describe("spec/model/mutants.lua", function()
  it("finds its places", function()
    local texts = { publish = read("spec/model/publish.pml"), handover = read("spec/model/handover.pml") }
    for _, m in ipairs(dofile("spec/model/mutants.lua")) do
      for i = 2, #m do
        local first, last = texts[m.model]:find(m[i][1], 1, true)
        assert.is_truthy(first, m[1])
        assert.is_nil(texts[m.model]:find(m[i][1], last + 1, true), m[1])
      end
    end
  end)
end)
