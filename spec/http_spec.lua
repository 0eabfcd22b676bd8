-- eventbus.http against real servers.

local http = require "eventbus.http"
local broker = require "spec.support.broker"
local peer = require "spec.support.peer"

local running = {}

local function start(answers)
  local p = peer.start(answers)
  running[#running + 1] = p
  return p
end

after_each(function()
  for _, p in ipairs(running) do p:stop() end
  running = {}
end)

describe("http.request", function()
  it("sends JSON and reads JSON, integers exact", function()
    local p = start { { status = 201, body = '{"id":-1009007199254740993}', headers = { ["Retry-After"] = "7" } } }
    local answer = assert(http.post(p.url .. "/things?x=1", { name = "чай" }, { headers = { ["X-Key"] = "k" } }))
    assert.equal(201, answer.status)
    assert.equal(7, answer.retry_after)
    -- Where a number cannot hold it, it is a text.
    assert.equal("-1009007199254740993", (tostring(answer.json.id)))
    local request = p:requests()[1]
    assert.equal("POST /things?x=1", request.method .. " " .. request.path)
    assert.equal('{"name":"чай"}', request.body)
    assert.equal("application/json", request.headers["content-type"])
    assert.equal("k", request.headers["x-key"])
    assert.equal("127.0.0.1:" .. p.port, request.headers.host)
  end)

  it("sends a text of another type as it is, and the URL's password as Basic", function()
    local p = start()
    assert(http.post(p.url:gsub("//", "//me:pa%%20ss@") .. "/_bulk", "{}\n{}\n", { content_type = "application/x-ndjson" }))
    local request = p:requests()[1]
    assert.equal("{}\n{}\n", request.body)
    assert.equal("application/x-ndjson", request.headers["content-type"])
    assert.equal("Basic " .. require("mime").b64 "me:pa ss", request.headers.authorization)
    assert.equal("127.0.0.1:" .. p.port, request.headers.host)
  end)

  it("gives up a request as a whole after its timeout, however busy the peer seems", function()
    local p = start { { body = ("x"):rep(1000), drip = 0.05 } }
    local answer, err = http.request("GET", p.url, nil, { timeout = 0.5 })
    assert.is_nil(answer)
    assert.matches("^127%.0%.0%.1:%d+: timeout", err)
  end)

  it("gives up on a peer that says nothing", function()
    local server = assert(require("socket").bind("127.0.0.1", 0))
    local port = select(2, server:getsockname())
    local answer, err = http.request("GET", "http://127.0.0.1:" .. port .. "/", nil, { timeout = 0.3 })
    assert.is_nil(answer)
    assert.matches("timeout", err)
    server:close()
  end)

  it("takes no answer larger than max_body", function()
    local p = start { { body = '"' .. ("x"):rep(5000) .. '"' } }
    local answer, err = http.request("GET", p.url, nil, { max_body = 4000 })
    assert.is_nil(answer)
    assert.matches("larger than 4000 bytes", err)
    assert.equal(5002, #assert(http.request("GET", p.url, nil, { max_body = 6000 })).body)
  end)

  it("takes no half answer for a whole one, and no garbage for HTTP", function()
    local p = start {
      { raw = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this" },
      { raw = "HTTP/1.1 200 OK\r\nX-Folded: a\r\n  " }, { raw = "SSH-2.0-OpenSSH_9.2\r\n" }, { raw = "" },
    }
    for _ = 1, 4 do
      local answer, err = http.request("GET", p.url, nil, { timeout = 5 })
      assert.is_nil(answer)
      assert.matches("^127%.0%.0%.1:%d+: ", err)
    end
    assert.equal(4, #p:requests())
  end)

  it("lets nothing into a header or the request line that ends the line", function()
    local p = start()
    for _, bad in ipairs { "a\r\nX-Evil: 1", "a\nb", "a\0b" } do
      local answer, err = http.post(p.url, {}, { headers = { ["idempotency-key"] = bad } })
      assert.is_nil(answer)
      assert.equal("a line break in the header idempotency-key", err)
      answer, err = http.post(p.url .. "/" .. bad, {})
      assert.is_nil(answer)
      assert.matches("a space or line break in the URL", err)
    end
    assert.equal(0, #p:requests())
  end)

  it("names the host of a peer that is not there, and nothing else of the URL", function()
    local p = start()
    p:stop()
    local answer, err = http.post(p.url:gsub("//", "//user:s3cret@") .. "/bot123:t0ken/sendMessage", {})
    assert.is_nil(answer)
    assert.matches("^127%.0%.0%.1:%d+: connection refused", err)
    assert.is_nil(err:find("s3cret", 1, true) or err:find("t0ken", 1, true))
  end)

  it("answers nil for a body that JSON cannot say, and raises for a URL that is none", function()
    local answer, err = http.post("http://127.0.0.1:1/", { x = 0 / 0 })
    assert.is_nil(answer)
    assert.matches("x", err)
    local ok, message = pcall(function() http.request("GET", "ftp://host/s3cret") end)
    assert.is_false(ok)
    assert.matches("http_spec%.lua:%d+: .*http:// or https://", message)
    assert.is_nil(message:find("s3cret", 1, true))
  end)

  it("takes durations and sizes as text", function()
    local server = assert(require("socket").bind("127.0.0.1", 0))
    local silent = "http://127.0.0.1:" .. select(2, server:getsockname()) .. "/"
    local answer, err = http.request("GET", silent, nil, { timeout = "300ms" })
    assert.is_nil(answer)
    assert.matches("timeout", err)
    server:close()
    local p = start { { body = ("x"):rep(5000) } }
    answer, err = http.request("GET", p.url, nil, { max_body = "4KB" })
    assert.is_nil(answer)
    assert.matches("larger than 4000 bytes", err)
  end)

  it("raises at its caller for options that cannot be meant, and asks nobody", function()
    local p = start()
    local calls = {
      function(given) local answer = http.request("GET", p.url, nil, given) return answer end,
      function(given) local answer = http.post(p.url, {}, given) return answer end,
    }
    for i, name in ipairs { "request", "post" } do
      for option, given in pairs { timeout = { timeout = "5x" }, max_body = { max_body = true }, headers = { headers = "x" },
        tiemout = { tiemout = 5 } } do
        local ok, message = pcall(calls[i], given)
        assert.is_false(ok, option)
        assert.matches("^[^:]*http_spec%.lua:%d+: http%." .. name .. ": .*option \"" .. option .. "\"", message)
      end
    end
    assert.equal(0, #p:requests())
  end)

  it("speaks HTTPS to a certificate it can trust, for this host only", function()
    assert(pcall(require, "ssl"), "lua-sec is missing; type: make deps")
    local program = require "spec.support.program"
    local tls = broker.shared().tls_dir
    local p = start { { body = '{"ok":true}' }, tls = { certificate = tls .. "/server.pem", key = tls .. "/server.key" } }
    local function ask(url, ca)
      local script = program.folder() .. "/ask.lua"
      local file = assert(io.open(script, "wb"))
      file:write(("local a, err = require('eventbus.http').request('GET', %q) print(a and a.status or err)"):format(url))
      file:close()
      local child = program.start("ask", { program.lua(), script }, { SSL_CERT_FILE = ca })
      assert(child:wait(20))
      return child:output()
    end
    assert.equal("200\n", ask(p.url, tls .. "/ca.pem"))
    assert.matches("certificate verify failed", ask(p.url, tls .. "/other-ca.pem"))
    assert.matches("none.pem", ask(p.url, tls .. "/none.pem"), 1, true)
    assert.equal(1, #p:requests())
  end)
end)
