--- number: one that was given on the command line, or the default when nothing was. Raises what is none.

return function(name, text, default)
  if text == nil or text == "" then return default end
  local value = tonumber(text)
  if not value or value < 0 then error(("%s: expected a number, got %q"):format(name, text), 0) end
  return value
end
