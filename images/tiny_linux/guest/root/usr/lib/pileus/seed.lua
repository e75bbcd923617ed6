-- Translates a seed into calls of the shell functions in `apply`:
--     seed.lua meta-data FILE WORK      seed.lua cloud-config FILE WORK
-- It reads YAML by libyaml, changes nothing, and prints one call per line, every argument in single quotes; contents
-- of files and scripts go to files under WORK. A malformed document prints its reason on stderr and ends with 1.
package.path = (arg[0]:match("^(.*)/") or ".") .. "/?.lua;" .. package.path
local document = require("document")
local cloud_config = require("cloud_config")

local kind, path, work = arg[1], arg[2], arg[3]

local function quote(value)
  return "'" .. tostring(value):gsub("'", "'\\''") .. "'"
end

local calls = {}

-- What the translators write with: `call(name, ...)` for a function, `file(name, content)` for a work file's path.
local output = {
  quote = quote,
  call = function(name, ...)
    local words = { name }
    for _, value in ipairs({ ... }) do words[#words + 1] = quote(value) end
    calls[#calls + 1] = table.concat(words, " ")
  end,
  file = function(name, content)
    local place = work .. "/" .. name
    local file = assert(io.open(place, "wb"))
    file:write(content)
    file:close()
    return place
  end,
}
function output.note(...) output.call("say", string.format(...)) end

local function meta_data(fields)
  local function plain(name)
    local value = document.scalar(fields[name])
    return value and value:match("^%s*(.-)%s*$")
  end
  local identity = plain("instance-id")
  if identity and identity ~= "" then output.file("instance-id", identity:gsub("%s", "-") .. "\n") end
  cloud_config.hostname(plain("local-hostname") or plain("hostname"), nil, output, "meta-data")
  -- A list of keys, one string, or a map of name to key (the forms that clouds use).
  for _, key in ipairs(document.strings(fields["public-keys"] or fields["public_keys"])) do
    output.call("authorize_key", "root", key)
  end
end

local function main()
  local file = assert(io.open(path, "rb"))
  local fields = document.parse(file:read("a"))
  file:close()
  if fields == nil then fields = document.map() end
  if not document.is_map(fields) then error({ reason = "it is not a mapping of keys to values" }) end
  if kind == "meta-data" then meta_data(fields) else cloud_config.translate(fields, output) end
  io.write(table.concat(calls, "\n"), #calls > 0 and "\n" or "")
end

local done, problem = pcall(main)
if not done then
  io.stderr:write(type(problem) == "table" and problem.reason or tostring(problem), "\n")
  os.exit(1)
end
