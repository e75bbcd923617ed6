-- Waits for the wake-up key and tells who the machine is then:   wake.lua EVENTS VOLUME
-- EVENTS is the input device of the key, VOLUME the seed's. Whenever the key is pressed and the seed names an instance
-- that this disk has not been yet, the seed is translated (see `seed`) and the instance-id printed on a line.
-- The kernel keeps no key for those who begin to listen later. So the seed is also looked at once in the beginning: a
-- snapshot may be from before that.
package.path = arg[0]:match("^(.*/)") .. "?.lua;" .. package.path
local seed = require("seed")
local volume = require("volume")

local RUN, KNOWN = "/run/pileus", "/var/lib/pileus/instance-id"
local INPUT_EVENT, EVENT_SIZE = "<i8 i8 I2 I2 i4", 24 -- struct input_event of linux/input.h on 64 bits
local EV_KEY, KEY_WAKEUP, PRESSED = 1, 143, 1

local function first_line(path)
  local file = io.open(path)
  local line = file and file:read()
  if file then file:close() end
  return line
end

local function write(path, content)
  local file = assert(io.open(path, "wb"))
  file:write(content)
  file:close()
end

-- Whether the seed names this very instance, as our hosts write it: that takes no translation.
local function is_known(files)
  local known = first_line(KNOWN)
  return known and (files["meta-data"] or ""):find(' "instance-id": "' .. known .. '",\n', 1, true)
end

local function wake()
  local files = volume.read(arg[2]) or error("there is no seed on " .. arg[2], 0)
  if is_known(files) then return end
  local identity = seed.translate(files, RUN)
  if identity and identity ~= first_line(KNOWN) then
    write(RUN .. "/seed/network-config", files["network-config"] or "")
    print(identity)
  end
end

local function try_to_wake()
  local done, problem = pcall(wake)
  if not done then io.stderr:write("pileus: woken, but this machine stays who it was: ", problem, "\n") end
end

io.stdout:setvbuf("line")
local events = assert(io.open(arg[1], "rb"))
try_to_wake()
while true do
  local event = events:read(EVENT_SIZE)
  if not event then break end
  local _, _, kind, code, value = string.unpack(INPUT_EVENT, event)
  if kind == EV_KEY and code == KEY_WAKEUP and value == PRESSED then try_to_wake() end
end
