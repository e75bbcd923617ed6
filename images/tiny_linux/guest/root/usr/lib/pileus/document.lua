-- YAML documents as tables, by libyaml's events (Debian's lua-yaml). Scalars stay the strings that were written, so
-- `permissions: 0644`, `password: 007` and `hostname: 1e3` mean what they say; a plain `null`, `~` or nothing is null.
local yaml = require("yaml")

local document = {}
local MAP, LIST, NULL = {}, {}, {}
local DEPTH = 64

function document.map() return setmetatable({ keys = {}, plain = {} }, MAP) end

MAP.__index = function(map, key) return rawget(map, "keys")[key] end

function document.is_map(value) return getmetatable(value) == MAP end

function document.is_list(value) return getmetatable(value) == LIST end

-- Whether a key's value was written without quotes: only then can it be a number.
function document.is_plain(map, key) return rawget(map, "plain")[key] == true end

-- The keys of a map in the order of the document.
function document.keys(map) return ipairs(rawget(map, "order") or {}) end

function document.is_null(value) return value == NULL end

-- The text of a scalar; nil for null, lists and maps.
function document.scalar(value) return type(value) == "string" and value or nil end

-- Whatever holds strings, flat: one string (one per line), a list, or a map's values.
function document.strings(value)
  local found = {}
  if document.is_list(value) then
    for _, item in ipairs(value) do
      for _, text in ipairs(document.strings(item)) do found[#found + 1] = text end
    end
  elseif document.is_map(value) then
    for _, key in document.keys(value) do
      for _, text in ipairs(document.strings(value[key])) do found[#found + 1] = text end
    end
  elseif type(value) == "string" then
    for line in value:gmatch("[^\r\n]+") do
      if line:match("%S") then found[#found + 1] = line:match("^%s*(.-)%s*$") end
    end
  end
  return found
end

-- YAML 1.1's words for true and false; nil for anything else.
function document.boolean(value)
  local word = type(value) == "string" and value:lower()
  if word == "true" or word == "yes" or word == "on" or word == "1" then return true end
  if word == "false" or word == "no" or word == "off" or word == "0" then return false end
  return nil
end

local function fail(event, reason)
  local mark = event.start_mark
  error({ reason = mark and string.format("line %d: %s", mark.line + 1, reason) or reason }, 0)
end

local function set(map, key, value, plain)
  local order = rawget(map, "order")
  if not order then order = {}; rawset(map, "order", order) end
  if rawget(map, "keys")[key] == nil then order[#order + 1] = key end
  rawget(map, "keys")[key] = value
  rawget(map, "plain")[key] = plain
end

-- What `from` says goes before what `map` says, key by key.
function document.overlay(map, from)
  for _, key in document.keys(from) do set(map, key, from[key], document.is_plain(from, key)) end
end

-- The one document of the text, or nil when it is empty; and a list of what of it cannot be, and is left out, each as
-- "line N: …". Errors, when it is not YAML, are {reason = "line N: …"}.
function document.parse(text)
  local parser = yaml.parser(text)
  local anchors, problems = {}, {}

  local function leave_out(event, reason)
    problems[#problems + 1] = string.format("line %d: %s", event.start_mark.line + 1, reason)
    return NULL
  end

  local function next_event()
    local fine, event = pcall(parser)
    if fine and event then return event end
    local reason = fine and "the document ends early" or tostring(event)
    local line, message = reason:match("(%d+):%d+: (.*)")
    if not line then line, message = reason:match("line: (%d+).-: (.*)") end
    error({ reason = line and string.format("line %d: %s", line, message) or reason }, 0)
  end

  local node

  -- The events of a node whose first one is at hand, passed over.
  local function skip(event)
    local open = 0
    while true do
      if event.type == "SEQUENCE_START" or event.type == "MAPPING_START" then open = open + 1 end
      if event.type == "SEQUENCE_END" or event.type == "MAPPING_END" then open = open - 1 end
      if open == 0 then return end
      event = next_event()
    end
  end

  -- Merge: what is written in the map itself wins, then what is named first.
  local function merge(event, fields, value)
    local from = document.is_list(value) and value or { value }
    for _, one in ipairs(from) do
      if document.is_map(one) then
        for _, key in document.keys(one) do
          if fields[key] == nil then set(fields, key, one[key], document.is_plain(one, key)) end
        end
      else
        leave_out(event, "<< takes in no mapping")
      end
    end
  end

  local function list(depth)
    local items = setmetatable({}, LIST)
    while true do
      local event = next_event()
      if event.type == "SEQUENCE_END" then return items end
      items[#items + 1] = node(event, depth)
    end
  end

  local function map(depth)
    local fields, merges = document.map(), {}
    while true do
      local event = next_event()
      if event.type == "MAPPING_END" then break end
      local key = node(event, depth)
      local its = next_event()
      local value = node(its, depth)
      if type(key) ~= "string" then
        leave_out(event, "a key must be plain text")
      elseif key == "<<" and event.style == "PLAIN" then
        merges[#merges + 1] = { its, value }
      else
        set(fields, key, value, its.type == "SCALAR" and its.style == "PLAIN")
      end
    end
    for _, one in ipairs(merges) do merge(one[1], fields, one[2]) end
    return fields
  end

  function node(event, depth)
    if depth > DEPTH then
      skip(event)
      return leave_out(event, "nested too deeply")
    end
    local value
    if event.type == "SCALAR" then
      value = event.value
      local plain = event.style == "PLAIN"
      if plain and (value == "" or value == "~" or value:lower() == "null") then value = NULL end
      if event.tag == "tag:yaml.org,2002:binary" then
        value = document.base64(value) or leave_out(event, "bad base64")
      end
    elseif event.type == "SEQUENCE_START" then
      value = list(depth + 1)
    elseif event.type == "MAPPING_START" then
      value = map(depth + 1)
    elseif event.type == "ALIAS" then
      -- The same table again, not a copy: a bomb of aliases costs nothing until somebody walks it.
      value = anchors[event.anchor]
      if value == nil then value = leave_out(event, "unknown anchor " .. event.anchor) end
    else
      fail(event, "unexpected " .. event.type)
    end
    if event.anchor and event.type ~= "ALIAS" then anchors[event.anchor] = value end
    return value
  end

  local root
  while true do
    local event = next_event()
    if event.type == "STREAM_END" then break end
    if event.type == "DOCUMENT_START" then
      if root ~= nil then
        leave_out(event, "a second document")
        break
      end
      root = node(next_event(), 0)
    end
  end
  if root == NULL then root = nil end
  return root, problems
end

-- The bytes behind base64 text (RFC 4648; what is not of its alphabet is skipped, as Python does), or nil.
function document.base64(text)
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local value_of = {}
  for i = 1, 64 do value_of[alphabet:byte(i)] = i - 1 end
  text = text:gsub("[^%w+/=]", ""):match("^[^=]*")
  if #text % 4 == 1 then return nil end
  text = text .. string.rep("=", -#text % 4)
  local bytes = {}
  for i = 1, #text, 4 do
    local a, b, c, d = text:byte(i, i + 3)
    a, b = value_of[a], value_of[b]
    if not (a and b) then return nil end
    local bits = (a << 18) | (b << 12) | ((value_of[c] or 0) << 6) | (value_of[d] or 0)
    local three = string.char(bits >> 16, (bits >> 8) & 255, bits & 255)
    bytes[#bytes + 1] = three:sub(1, (c == 61 and 1) or (d == 61 and 2) or 3)
  end
  return table.concat(bytes)
end

return document
