--- valgrind: what a command costs, counted and not timed: its instructions, and its system calls. All its threads; of the
--- kernel's own work nothing. Nothing is traced, so it works wherever valgrind does.
---
--- Each raises an error when the command fails. `on_ready` is called when it prints "ready".

local shell = require "bench.suite.shell"

local valgrind = {}

-- The same string functions of libc everywhere: which it picks depends on the processor.
local PLAIN = "env GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-ERMS,-AVX_Fast_Unaligned_Load,-AVX512VL,-BMI2 "

-- What is in the file that valgrind writes about a run, and what the command printed.
local function written_about(command, options, on_ready)
  local path = os.tmpname()
  local whole = PLAIN .. "valgrind " .. options .. shell.quote(path) .. " " .. command
  local pipe = assert(io.popen(whole .. " 2>&1 && echo ended well", "r"))
  local said = {}
  for line in pipe:lines() do
    if line == "ready" and on_ready then on_ready() end
    said[#said + 1] = line
  end
  pipe:close()
  local file = assert(io.open(path, "r"))
  local text = file:read "*a"
  file:close()
  os.remove(path)
  if said[#said] ~= "ended well" then error(whole .. "\n" .. table.concat(said, "\n"), 0) end
  return text, table.concat(said, "\n")
end

local function profile(command, on_ready)
  return written_about(command, "--tool=callgrind --callgrind-out-file=", on_ready)
end

--- Instructions.
function valgrind.instructions(command, on_ready)
  local written = profile(command, on_ready)
  return tonumber(written:match "\ntotals: (%d+)") or error("callgrind has counted nothing", 0)
end

--- Instructions by the file that they are in: a program or a shared library.
function valgrind.objects(command)
  local names, costs, at = {}, {}, nil
  local of_a_call = false
  for line in profile(command):gmatch "[^\n]+" do
    local is, id, name = line:match "^(c?ob)=(%(%d+%))%s*(.*)"
    if is then
      -- A name is written out where it comes first, also where it is that of a function that is called.
      if name ~= "" then names[id] = name end
      if is == "ob" then at = names[id] end
    elseif line:find "^calls=" then
      of_a_call = true
    elseif line:find "^[%d+*-]" and at then
      if not of_a_call then costs[at] = (costs[at] or 0) + tonumber(line:match "(%d+)%s*$") end
      of_a_call = false
    end
  end
  return costs
end

-- Outside of valgrind libc answers these without the kernel.
local NOT_CALLED = { clock_gettime = true, gettimeofday = true, time = true, getcpu = true }

--- The names of its system calls in their order, which thread made each (1: the first), and what it printed.
function valgrind.calls(command, on_ready)
  local calls, threads = {}, {}
  local trace, said = written_about(command, "--tool=none --trace-syscalls=yes --log-file=", on_ready)
  for thread, name in trace:gmatch "SYSCALL%[%d+,(%d+)%]%(%s*%d+%) sys_([%w_]+)" do
    if not NOT_CALLED[name] then
      calls[#calls + 1] = name
      threads[#calls] = tonumber(thread)
    end
  end
  return calls, threads, said
end

return valgrind
