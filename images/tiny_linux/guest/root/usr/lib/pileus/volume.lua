-- The files in a volume's root directory: ISO 9660 (ECMA-119, sections 7 to 9) with Joliet's names.
-- A seed that is read like this needs no mount: a few reads instead of three processes and a file system.
local M = {}
local SECTOR, FIRST_DESCRIPTOR, LAST_DESCRIPTOR = 2048, 16, 31
local SUPPLEMENTARY, TERMINATOR = 2, 255 -- types of descriptors
local LARGEST_DIRECTORY, LARGEST_FILE = 1 << 16, 1 << 20

-- Name → content; nil when there is no such volume on the device. Nothing of it stays open: the next may be another.
function M.read(path)
  local device = io.open(path, "rb")
  if not device then return nil end

  local function read(sector, size)
    device:seek("set", sector * SECTOR)
    return device:read(size) or ""
  end

  local function extent(record)
    local sector, size = string.unpack("<I4 xxxx I4", record, 3)
    return sector, size
  end

  local root
  for sector = FIRST_DESCRIPTOR, LAST_DESCRIPTOR do
    local descriptor = read(sector, SECTOR)
    if descriptor:sub(2, 6) ~= "CD001" or descriptor:byte(1) == TERMINATOR then break end
    if descriptor:byte(1) == SUPPLEMENTARY then root = descriptor:sub(157, 190) end
  end
  local files
  if root then
    files = {}
    local sector, size = extent(root)
    local directory, place = read(sector, math.min(size, LARGEST_DIRECTORY)), 1
    while place + 33 <= #directory do
      local length = directory:byte(place)
      if length < 34 or place + length - 1 > #directory then break end
      local record = directory:sub(place, place + length - 1)
      local name = record:sub(34, 33 + record:byte(33)):gsub("%z(.)", "%1") -- UCS-2, of which ASCII is meant
      sector, size = extent(record)
      if size <= LARGEST_FILE then files[name] = read(sector, size) end
      place = place + length
    end
  end
  device:close()
  return files
end

return M
