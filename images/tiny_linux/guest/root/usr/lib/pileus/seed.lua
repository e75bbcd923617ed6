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

-- The document of a text as a mapping; notes what of it is left out. Raises {reason = …}.
local function mapping(text, part, output)
  local fields, problems = document.parse(text)
  for _, problem in ipairs(problems) do output.note("%s: %s: ignored", part, problem) end
  if fields == nil then fields = document.map() end
  if not document.is_map(fields) then error({ reason = "it is not a mapping of keys to values" }, 0) end
  return fields
end

-- Run one translator over a part's document and write its calls; nothing of a malformed one is applied.
local function translate(part, text, translator)
  local output = new_output(part)
  local done, problem = pcall(function()
    translator(mapping(text, part, output), output, part)
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

-- How cloud-init tells kinds apart: by the first characters, in any case, after white space. The longest come first.
local STARTS = {
  { "#cloud-config-archive", "text/cloud-config-archive" }, { "#cloud-config-jsonp", "text/cloud-config-jsonp" },
  { "#cloud-boothook", "text/cloud-boothook" }, { "#cloud-config", "text/cloud-config" }, { "#!", "text/x-shellscript" },
}
local SCRIPTS = {
  ["text/x-shellscript"] = true, ["text/x-shellscript-per-once"] = true, ["text/x-shellscript-per-instance"] = true,
  ["text/x-sh"] = true, ["application/x-sh"] = true, ["application/x-shellscript"] = true,
}
local UNTYPED = { ["text/plain"] = true, ["text/x-not-multipart"] = true, ["application/octet-stream"] = true }

local function kind_of(text)
  local start = text:sub(1, 200):lower()
  for _, entry in ipairs(STARTS) do
    if start:sub(1, #entry[1]) == entry[1] then return entry[2] end
  end
end

-- Scripts that came from Windows: "\r" would be a part of every line.
local function unix(text) return (text:gsub("\r\n", "\n")) end

-- user-data or vendor-data: one text, or an archive of several. Cloud-configs are laid over each other, key by key, before
-- any of it is translated; scripts are numbered in their order.
local function user_data(part, text)
  local output = new_output(part)
  local fields, scripts, hooks = document.map(), 0, 0
  local take

  local function archive(content)
    local entries = document.parse(content)
    if not document.is_list(entries) then error({ reason = "an archive is a list of parts" }, 0) end
    for number, entry in ipairs(entries) do
      local where = string.format("%s, part %d", part, number)
      local is_map = document.is_map(entry)
      local inner = document.scalar(is_map and entry.content or entry)
      if inner then take(inner, is_map and document.scalar(entry.type), where) else output.note("%s has no content", where) end
    end
  end

  local function config(content, where)
    document.overlay(fields, mapping(content, where, output))
  end

  function take(content, kind, where)
    if content:sub(1, 2) == "\x1f\x8b" then
      local pipe = assert(io.popen("gunzip -c " .. quote(write(part .. ".gz", content)), "r"))
      content = pipe:read("a")
      pipe:close()
    end
    content = content:gsub("^\xef\xbb\xbf", ""):gsub("^%s+", "")
    if not kind or UNTYPED[kind] then kind = kind_of(content) end
    if kind == "text/cloud-config" or kind == "text/cloud-config-archive" and where == part then
      local done, problem = pcall(kind == "text/cloud-config" and config or archive, content, where)
      if not done then
        output.note("%s is malformed and not applied: %s", where, type(problem) == "table" and problem.reason or problem)
      end
    elseif SCRIPTS[kind] then
      scripts = scripts + 1
      local name = scripts == 1 and part or string.format("%s.%03d", part, scripts)
      output.call("keep_script", name, write(name, unix(content)))
    elseif kind == "text/cloud-boothook" then
      hooks = hooks + 1
      local name = string.format("boothook.%s.%03d", part, hooks)
      content = unix(content):gsub("^#[Cc][Ll][Oo][Uu][Dd]%-[Bb][Oo][Oo][Tt][Hh][Oo][Oo][Kk][^\n]*\n", "", 1)
      if content:sub(1, 2) ~= "#!" then content = "#!/bin/sh\n" .. content end
      output.call("keep_script", name, write(name, content))
    elseif content ~= "" then
      output.note("%s is neither a script (#!) nor #cloud-config: ignored", where)
    end
  end

  take(text, nil, part)
  local done, problem = pcall(cloud_config.translate, fields, output, part)
  if not done then output.note("%s could not be applied: %s", part, problem) end
  write(part .. ".sh", table.concat(output.calls, "\n") .. "\n")
end

-- The seed's files by name, any of which may be missing, and the directory to write to; the instance-id, or nil.
function M.translate(files, directory)
  work, M.identity = directory, nil
  translate("meta-data", files["meta-data"] or "", meta_data)
  for _, part in ipairs({ "vendor-data", "user-data" }) do user_data(part, files[part] or "") end
  return M.identity
end

return M
