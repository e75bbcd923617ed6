-- A seed in a directory, translated at boot:   translate.lua SEED WORK
-- Any of the seed's files may be missing; what is written to WORK is told in `seed`.
package.path = arg[0]:match("^(.*/)") .. "?.lua;" .. package.path
local seed = require("seed")
local from, work = arg[1], arg[2]

local files = {}
for _, name in ipairs({ "meta-data", "vendor-data", "user-data" }) do
  local file = io.open(from .. "/" .. name, "rb")
  if file then
    files[name] = file:read("a")
    file:close()
  end
end

seed.translate(files, work)
