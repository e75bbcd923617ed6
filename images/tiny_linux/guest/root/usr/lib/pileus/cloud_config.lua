-- The keys of #cloud-config that this image knows, in the order in which they are applied. What is unknown or
-- makes no sense is named on the console and left out; the rest is applied.
-- Meanings are those of https://cloudinit.readthedocs.io/en/latest/reference/modules.html
local document = require("document")
local host_key = require("host_key")

local M = {}
local scalar, strings, boolean, is_map, is_list =
  document.scalar, document.strings, document.boolean, document.is_map, document.is_list
local DEFAULT_USER = "root"

local function items(value, key, output)
  if value == nil then return {} end
  if is_list(value) then return value end
  output.note("%s is not a list: ignored", key)
  return {}
end

-- Names of users and groups, as useradd(8) allows them.
local function valid_name(name) return name and #name <= 32 and name:match("^[a-z_][a-z0-9_-]*$") ~= nil end

-- Words of "a, b", of a list, or the keys of a map.
local function words(value)
  local found = {}
  if is_map(value) then -- names as keys without values
    for _, key in document.keys(value) do found[#found + 1] = key end
    return found
  end
  for _, text in ipairs(strings(value)) do
    for word in text:gmatch("[^%s,]+") do found[#found + 1] = word end
  end
  return found
end

function M.hostname(name, fqdn, output, where)
  if not name and not fqdn then return end
  name = name or fqdn
  fqdn = fqdn or (name:find(".", 1, true) and name) or ""
  local short = name:match("^[^.]*")
  local function valid(text) return #text <= 253 and text:match("^%w[%w.-]*$") end
  if #short > 63 or not valid(short) or (fqdn ~= "" and not valid(fqdn)) then
    output.note("%s: the hostname %q is not valid: ignored", where, name)
    return
  end
  output.call("set_hostname", short, fqdn)
end

-- All SSH keys of a value for a user, in one call.
function M.authorize(user, value, output)
  local keys = {}
  for _, item in ipairs(is_list(value) and value or { value }) do
    if is_map(item) and item ~= value then
      output.note("an SSH key of %s is a mapping, for want of quotes around it: ignored", user)
    else
      for _, key in ipairs(strings(item)) do keys[#keys + 1] = key end
    end
  end
  if #keys == 0 then return end
  M.files = (M.files or 0) + 1
  output.call("authorize_keys", user, output.file("keys-" .. M.files, table.concat(keys, "\n") .. "\n"))
end

-- A script from runcmd or bootcmd: a string is a line of shell, a list is one command with its arguments.
local function script(value, key, output)
  local lines = { "#!/bin/sh" }
  for _, item in ipairs(items(value, key, output)) do
    if scalar(item) then
      lines[#lines + 1] = item
    elseif is_list(item) then
      local quoted = {}
      for _, word in ipairs(item) do quoted[#quoted + 1] = output.quote(scalar(word) or "") end
      lines[#lines + 1] = table.concat(quoted, " ")
    elseif not document.is_null(item) then
      output.note("%s: an entry that is neither text nor a list: ignored", key)
    end
  end
  if #lines > 1 then output.call("keep_script", key, output.file(key, table.concat(lines, "\n") .. "\n")) end
end

local USER_KEYS = {}
for _, key in ipairs({
  "name", "gecos", "homedir", "no_create_home", "primary_group", "groups", "shell", "uid", "system", "lock_passwd", "lock-passwd",
  "passwd", "hashed_passwd", "plain_text_passwd", "ssh_authorized_keys", "ssh-authorized-keys",
}) do USER_KEYS[key] = true end

local function add_user(user, output)
  local name = scalar(user.name)
  if not valid_name(name) then
    output.note("users: %q is not a valid user name: ignored", tostring(name))
    return
  end
  for _, key in document.keys(user) do
    if not USER_KEYS[key] then output.note("users: %s of %s is not known here: ignored", key, name) end
  end
  local groups = {}
  for _, group in ipairs(words(user.groups)) do
    if valid_name(group) then groups[#groups + 1] = group else output.note("users: group %q ignored", group) end
  end
  local uid = scalar(user.uid)
  if uid and not uid:match("^%d+$") then uid = nil end
  local primary = scalar(user.primary_group)
  if not valid_name(primary) then primary = "" end
  local home = scalar(user.homedir) or (name == "root" and "/root" or "/home/" .. name)
  local function field(text) return (text or ""):gsub("[:\n]", " ") end
  output.call("add_user", name, uid or "", field(scalar(user.gecos)), field(home), field(scalar(user.shell) or "/bin/sh"),
    primary, table.concat(groups, " "), (boolean(user.no_create_home) or boolean(user.system)) and "no-home" or "home",
    boolean(user.system) and "system" or "")
  local hash, plain = scalar(user.hashed_passwd) or scalar(user.passwd), scalar(user.plain_text_passwd)
  if hash then output.call("set_password", name, "hash", hash) end
  if plain then output.call("set_password", name, "text", plain) end
  if boolean(user.lock_passwd or user["lock-passwd"]) ~= false then output.call("lock_password", name) end
  M.authorize(name, user.ssh_authorized_keys or user["ssh-authorized-keys"], output)
end

-- A user by name alone.
local function named(name)
  local user = document.map()
  document.overlay(user, document.parse("{name: '" .. name:gsub("'", "''") .. "'}"))
  return user
end

-- The user that is meant where none is named.
local function default_user(value, output)
  if not scalar(value) and not is_map(value) then output.note("user is neither a name nor a mapping: ignored") return end
  local user = is_map(value) and value or named(value)
  if not valid_name(scalar(user.name)) then output.note("user has no valid name: ignored") return end
  M.default = scalar(user.name)
  add_user(user, output)
end

local function users(value, output)
  if is_map(value) then -- by name: a mapping of its own, or whether there is to be one
    local list = setmetatable({}, getmetatable(document.parse("[]")))
    for _, name in document.keys(value) do
      local user = named(name)
      if is_map(value[name]) then document.overlay(user, value[name]) end
      if boolean(value[name]) ~= false then list[#list + 1] = name == "default" and name or user end
    end
    value = list
  end
  if scalar(value) then value = setmetatable(words(value), getmetatable(document.parse("[]"))) end
  for _, user in ipairs(items(value, "users", output)) do
    if is_map(user) then
      add_user(user, output)
    elseif scalar(user) == "default" then
      -- The default user is root, who is always there.
    elseif scalar(user) then
      add_user(named(user), output)
    elseif is_list(user) then
      for _, name in ipairs(words(user)) do
        if name ~= "default" then add_user(named(name), output) end
      end
    else
      output.note("users: an entry that is neither a name nor a mapping: ignored")
    end
  end
end

local function groups(value, output)
  local function add(name, members)
    if not valid_name(name) then output.note("groups: %q ignored", tostring(name)) return end
    output.call("add_group", name)
    for _, member in ipairs(members) do output.call("join_group", member, name) end
  end
  if scalar(value) then
    for _, name in ipairs(words(value)) do add(name, {}) end
    return
  end
  for _, entry in ipairs(is_map(value) and { value } or items(value, "groups", output)) do
    if is_map(entry) then
      for _, name in document.keys(entry) do add(name, words(entry[name])) end
    else
      add(scalar(entry), {})
    end
  end
end

-- How cloud-init names encodings → what `write_file` decodes, in order.
local ENCODINGS = {
  ["text/plain"] = "", b64 = "base64", base64 = "base64", gz = "gzip", gzip = "gzip",
  ["gz+b64"] = "base64 gzip", ["gz+base64"] = "base64 gzip", ["gzip+b64"] = "base64 gzip", ["gzip+base64"] = "base64 gzip",
}

-- The mode that cloud-init makes of permissions: a number is the mode itself (420 is 0644), text is octal; nil for others.
local function mode(entry)
  local text = scalar(entry.permissions)
  if not text then return "0644" end
  local number
  if document.is_plain(entry, "permissions") then
    local plain = text:gsub("_", "")
    if plain:match("^[1-9]%d*$") or plain:match("^0x%x+$") then
      number = math.tointeger(tonumber(plain))
    elseif plain:match("^%d+%.%d*$") then
      number = math.floor(tonumber(plain))
    elseif plain:match("^0b[01]+$") then
      number = tonumber(plain:sub(3), 2)
    end
  end
  local octal = text:match("^0?o?([0-7]+)$")
  number = number or octal and #octal < 12 and tonumber(octal, 8)
  return number and number <= tonumber("7777", 8) and string.format("%04o", number) or nil
end

local function write_files(value, output)
  for number, entry in ipairs(items(value, "write_files", output)) do
    local path = is_map(entry) and scalar(entry.path)
    local encoding = path and ENCODINGS[(scalar(entry.encoding) or "text/plain"):lower()]
    local permissions = path and mode(entry)
    if not path or path:sub(1, 1) ~= "/" then
      output.note("write_files: entry %d has no absolute path: ignored", number)
    else
      if not encoding then
        output.note("write_files: %s has the unknown encoding %s: taken as plain text", path, scalar(entry.encoding))
      end
      if not permissions then
        output.note("write_files: %s has the bad permissions %s: 0644 instead", path, scalar(entry.permissions))
      end
      if entry.source then output.note("write_files: source of %s is not known here: ignored", path) end
      local content = output.file("content-" .. number, scalar(entry.content) or "")
      output.call("write_file", path, permissions or "0644", scalar(entry.owner) or "root:root",
        boolean(entry.append) and "append" or "replace", encoding or "", content)
    end
  end
end

local function set_password(name, text, kind, output)
  if not kind then
    if text == "R" or text == "RANDOM" then kind = "RANDOM"
    elseif text:match("^%$%w+%$.+%$") then kind = "hash" else kind = "text" end
  end
  output.call("set_password", name, kind, text)
end

local function chpasswd(value, output)
  if not is_map(value) then output.note("chpasswd is not a mapping: ignored") return end
  for _, line in ipairs(strings(value.list)) do
    local name, text = line:match("^([^:]+):(.+)$")
    if name then set_password(name, text, nil, output) else output.note("chpasswd: a line without user:password: ignored") end
  end
  for _, entry in ipairs(items(value.users, "chpasswd.users", output)) do
    local name = is_map(entry) and scalar(entry.name)
    local kind = name and (scalar(entry.type) or "hash")
    if name and (kind == "RANDOM" or scalar(entry.password)) then
      set_password(name, scalar(entry.password) or "", kind, output)
    else
      output.note("chpasswd.users: an entry without name and password: ignored")
    end
  end
  if boolean(value.expire) then output.note("chpasswd.expire is not known here: passwords don't expire") end
end

-- The host key, of the only kind that is used here. A public key's comment may be its fingerprint, which need not be
-- reckoned then.
local function ssh_keys(value, output)
  if not is_map(value) then output.note("ssh_keys is not a mapping: ignored") return end
  for _, key in document.keys(value) do
    if not key:match("^ed25519_") then output.note("ssh_keys: %s is not known here: ignored", key) end
  end
  local private = scalar(value.ed25519_private)
  if not private then return end
  local key = host_key.dropbear(private)
  if not key then
    output.note("ssh_keys: ed25519_private is no ed25519 key without a passphrase: ignored")
    return
  end
  local printable = key:gsub(".", function(byte) return string.format("\\%03o", byte:byte()) end)
  output.call("use_host_key", printable, (scalar(value.ed25519_public) or ""):match(" (SHA256:[%w+/]+)%s*$") or "")
end

-- What is known, in the order of doing. `fields` is the whole document for keys that belong together.
local STEPS = {
  { "bootcmd", function(value, output) script(value, "bootcmd", output) end },
  { "hostname", function(value, output, fields)
    if boolean(fields.preserve_hostname) ~= true then M.hostname(scalar(value), scalar(fields.fqdn), output, "hostname") end
  end },
  { "fqdn", function(value, output, fields)
    if fields.hostname == nil and boolean(fields.preserve_hostname) ~= true then
      M.hostname(nil, scalar(value), output, "fqdn")
    end
  end },
  { "preserve_hostname", function() end },
  { "groups", groups },
  { "user", default_user },
  -- Users before files, so that a file may belong to one of them.
  { "users", users },
  { "write_files", write_files },
  { "ssh_authorized_keys", function(value, output)
    M.authorize(M.default, value, output)
  end },
  { "password", function(value, output)
    if scalar(value) then set_password(M.default, value, nil, output) end
  end },
  { "chpasswd", chpasswd },
  { "ssh_pwauth", function(value, output)
    output.call("allow_password_ssh", boolean(value) and "yes" or "no")
  end },
  { "ssh_keys", ssh_keys },
  { "runcmd", function(value, output) script(value, "runcmd", output) end },
}

function M.translate(fields, output, name)
  M.default = DEFAULT_USER
  local known = {}
  for _, step in ipairs(STEPS) do known[step[1]] = true end
  for _, key in document.keys(fields) do
    if not known[key] then output.note("%s: %s is not known here: ignored", name, key) end
  end
  for _, step in ipairs(STEPS) do
    if fields[step[1]] ~= nil then step[2](fields[step[1]], output, fields) end
  end
end

return M
