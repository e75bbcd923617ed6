-- A seed in a directory, translated at boot:   translate.lua SEED WORK
-- SEED/meta-data and SEED/user-data may be missing; what is written to WORK is told in `seed`.
package.path = arg[0]:match("^(.*/)") .. "?.lua;" .. package.path
local seed = require("seed")
local from, work = arg[1], arg[2]

local function read(name)
  local file = io.open(from .. "/" .. name, "rb")
  if not file then return "" end
  local content = file:read("a")
  file:close()
  return content
end

seed.translate(read("meta-data"), read("user-data"), work)
