--- What may be printed of a text that others typed: URLs in it lose their passwords. Pure.
-- The last line of defence: messages about a URL do without it in the first place. This is for one that was typed where
-- something else was meant, and is quoted back.

local redact = {}

--- The text without the user and password of any URL in it, also of one with an unescaped '/', '?' or '@'. A user's name
-- alone stays.
---@param text string
---@return string
function redact.urls(text)
  return (text:gsub("(%a[%w+.-]*://)([^%s\"']*)@", function(scheme, who)
    return scheme .. (who:find "^[%w_.-]+$" and who or "***") .. "@"
  end))
end

return redact
