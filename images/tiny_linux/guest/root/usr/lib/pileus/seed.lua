-- Translates a seed into calls of the shell functions in `apply`. It writes to a directory: instance-id, meta-data.sh,
-- vendor-data.sh, user-data.sh (one call per line, every argument in single quotes) and the contents that they name, and
-- changes nothing else. What can't be understood becomes a `say` in place of the calls: a bad seed never stops a boot.
local document = require("document")
local cloud_config = require("cloud_config")

local M = {}
local work -- where to write

local function quote(value)
  return "'" .. tostring(value):gsub("'", "'\\''") .. "'"
end

local function write(name, content)
  local path = work .. "/" .. name
  local file = assert(io.open(path, "wb"))
  file:write(content)
  file:close()
  return path
end

-- What a translator of `part` writes with: `call(name, ...)`, `note(format, ...)` for the console, and
-- `file(name, content)` → path.
local function new_output(part)
  local output = { calls = {}, quote = quote }
  function output.file(name, content) return write(part .. "." .. name, content) end
  function output.call(name, ...)
    local words = { name }
    for _, value in ipairs({ ... }) do words[#words + 1] = quote(value) end
    output.calls[#output.calls + 1] = table.concat(words, " ")
  end
  function output.note(...) output.call("say", string.format(...)) end
  return output
end

-- Run one translator over a part's document and write its calls; nothing of a malformed one is applied.
local function translate(part, text, translator)
  local output = new_output(part)
  local done, problem = pcall(function()
    local fields = document.parse(text)
    if fields == nil then fields = document.map() end
    if not document.is_map(fields) then error({ reason = "it is not a mapping of keys to values" }, 0) end
    translator(fields, output, part)
  end)
  if not done then
    output = new_output(part)
    output.note("%s is malformed and not applied: %s", part, type(problem) == "table" and problem.reason or problem)
  end
  write(part .. ".sh", table.concat(output.calls, "\n") .. "\n")
end

local function meta_data(fields, output)
  local function plain(name)
    local value = document.scalar(fields[name])
    return value and value:match("^%s*(.-)%s*$")
  end
  local identity = plain("instance-id")
  if identity and identity ~= "" then
    M.identity = identity:gsub("%s", "-")
    write("instance-id", M.identity .. "\n")
  end
  cloud_config.hostname(plain("local-hostname") or plain("hostname"), nil, output, "meta-data")
  -- A list of keys, one string, or a map of name to key (the forms that clouds use).
  cloud_config.authorize("root", fields["public-keys"] or fields["public_keys"], output)
end

-- user-data or vendor-data by its first bytes, as cloud-init tells its formats apart.
local function user_data(part, text)
  if text:sub(1, 2) == "\x1f\x8b" then
    local pipe = assert(io.popen("gunzip -c " .. quote(write(part .. ".gz", text)), "r"))
    text = pipe:read("a")
    pipe:close()
  end
  local first = text:match("^[^\r\n]*")
  if first:match("^#cloud%-config%s*$") then
    translate(part, text, cloud_config.translate)
  else
    local output = new_output(part)
    if first:sub(1, 2) == "#!" then
      output.call("keep_script", part, write(part, text))
    elseif text:match("%S") then
      output.note("%s is neither a script (#!) nor #cloud-config: ignored", part)
    end
    write(part .. ".sh", table.concat(output.calls, "\n") .. "\n")
  end
end

-- The seed's files by name, any of which may be missing, and the directory to write to; the instance-id, or nil.
function M.translate(files, directory)
  work, M.identity = directory, nil
  translate("meta-data", files["meta-data"] or "", meta_data)
  for _, part in ipairs({ "vendor-data", "user-data" }) do user_data(part, files[part] or "") end
  return M.identity
end

return M
