--- frames: where the frames of an AMQP stream begin and end, told from the bytes as they come, however they are cut.

local frames = {}

local Frames = {}
Frames.__index = Frames

--- A client's stream begins with the eight bytes of the protocol header, a broker's with a frame.
function frames.new(from_client)
  return setmetatable({ skip = from_client and 8 or 0, header = "", left = 0 }, Frames)
end

--- Takes the next bytes. Two positions in them, or nil where there is none: an octet that every peer checks, and one
--- in the midst of a frame.
function Frames:take(bytes)
  local at, checked, midst = 1, nil, nil
  if self.skip > 0 then
    local skipped = math.min(self.skip, #bytes)
    self.skip = self.skip - skipped
    at = at + skipped
  end
  while at <= #bytes do
    if self.left == 0 then
      -- Type, channel, length: seven octets.
      if self.header == "" then checked = checked or at end
      local part = bytes:sub(at, at + 6 - #self.header)
      self.header = self.header .. part
      at = at + #part
      if #self.header == 7 then
        local a, b, c, d = self.header:byte(4, 7)
        self.left = ((a * 256 + b) * 256 + c) * 256 + d + 1
        self.header = ""
        if self.left > 1 and at <= #bytes then midst = midst or math.min(at + math.floor(self.left / 2), #bytes - 1) end
      end
    else
      local part = math.min(self.left, #bytes - at + 1)
      self.left = self.left - part
      at = at + part
      if self.left == 0 then checked = checked or at - 1 end
    end
  end
  return checked, midst
end

return frames
