--- A topology's graph as a Mermaid flowchart, which Markdown pages of GitHub and GitLab draw. Pure.

local mermaid = {}

-- In quotes Mermaid takes entities; what would end the quotes or be read as its own language is one.
local function quote(text)
  return '"' .. text:gsub("[#\"&<>]", function(c) return ("#%d;"):format(c:byte()) end):gsub("\r?\n", "<br>") .. '"'
end

local ARROW = { binding = "-->", ["dead-letter"] = "-.->", retry = "-.->" }

--- The text of a graph.
---@param graph eventbus.Graph
---@param title string
---@return string
function mermaid.text(graph, title)
  local lines, ids, classes, styled = { "%% " .. title:gsub("%s", " "), "flowchart LR" }, {}, {}, {}
  for i, node in ipairs(graph.nodes) do
    ids[node.id] = (node.kind == "exchange" and "e" or "q") .. i
    local label = quote(node.name .. (node.kind == "exchange" and node.type and "\n" .. node.type
      or node.kind == "queue" and node.type and node.type ~= "classic" and "\n" .. node.type or ""))
    local shape = node.kind == "exchange" and "  %s([%s])" or "  %s[%s]"
    lines[#lines + 1] = shape:format(ids[node.id], label)
    local class = node.kind == "exchange" and (node.type or "foreign"):gsub("%W", "") or node.dead and "dead" or nil
    if class then classes[class] = classes[class] and classes[class] .. "," .. ids[node.id] or ids[node.id] end
  end
  for i, edge in ipairs(graph.edges) do
    local label = edge.label ~= "" and "|" .. quote(edge.label) .. "|" or ""
    lines[#lines + 1] = ("  %s %s%s %s"):format(ids[edge.from], ARROW[edge.kind], label, ids[edge.to])
    styled[edge.kind] = styled[edge.kind] and styled[edge.kind] .. "," .. (i - 1) or tostring(i - 1)
  end
  local COLOURS = { topic = "#cfe2f3", fanout = "#d9ead3", direct = "#fff2cc", headers = "#ead1dc", dead = "#f4cccc" }
  for _, class in ipairs { "topic", "fanout", "direct", "headers", "dead" } do
    if classes[class] then
      lines[#lines + 1] = ("  classDef %s fill:%s,stroke:#666,color:#000"):format(class, COLOURS[class])
      lines[#lines + 1] = ("  class %s %s"):format(classes[class], class)
    end
  end
  if styled["dead-letter"] then lines[#lines + 1] = ("  linkStyle %s stroke:#c00"):format(styled["dead-letter"]) end
  if styled.retry then lines[#lines + 1] = ("  linkStyle %s stroke:#b45f06"):format(styled.retry) end
  return table.concat(lines, "\n") .. "\n"
end

return mermaid
