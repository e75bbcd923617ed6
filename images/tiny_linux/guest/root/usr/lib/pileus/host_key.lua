-- An SSH host key: from the form in which OpenSSH keeps it to the one in which dropbear does.
-- Sources: OpenSSH's PROTOCOL.key; RFC 4648, section 4; dropbear's ed25519.c.
local M = {}
local MAGIC, KIND, SIZE = "openssh-key-v1\0", "ssh-ed25519", 32
local DIGITS = {}
for number = 0, 63 do
  DIGITS[("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):byte(number + 1)] = number
end

local function base64(text)
  return (text:gsub("[^%w+/]", ""):gsub("..?.?.?", function(digits)
    local number = 0
    for place = 1, 4 do number = number << 6 | (DIGITS[digits:byte(place)] or 0) end
    return string.pack(">I3", number):sub(1, #digits - 1)
  end))
end

-- An ed25519 key without a passphrase, in dropbear's form; nil when it is anything else.
function M.dropbear(text)
  local body = text:match("^%s*%-%-%-%-%-BEGIN OPENSSH PRIVATE KEY%-%-%-%-%-%s(.-)%-%-%-%-%-END")
  local content = base64(body or "")
  if content:sub(1, #MAGIC) ~= MAGIC then return nil end
  local read, cipher, _, _, count, _, secret = pcall(string.unpack, ">s4 s4 s4 I4 s4 s4", content, #MAGIC + 1)
  if not read or cipher ~= "none" or count ~= 1 then return nil end
  local check, same, kind, public, private
  read, check, same, kind, public, private = pcall(string.unpack, ">I4 I4 s4 s4 s4", secret)
  if not read or check ~= same or kind ~= KIND or #private ~= 2 * SIZE or private:sub(-SIZE) ~= public then return nil end
  return string.pack(">s4 s4", kind, private)
end

return M
