--- A topology's graph in Graphviz' language. Pure.

local dot = {}

-- Backslashes too: a label's \n is ours alone.
local function quote(text) return '"' .. text:gsub('[\\"]', "\\%0"):gsub("\r?\n", "\\n") .. '"' end

local EXCHANGE_COLOUR = { topic = "#cfe2f3", fanout = "#d9ead3", direct = "#fff2cc", headers = "#ead1dc" }

local function node_line(node)
  local attributes
  if node.kind == "exchange" then
    attributes = ('shape=ellipse fillcolor="%s" label=%s'):format(EXCHANGE_COLOUR[node.type] or "#eeeeee",
      quote(node.name .. (node.type and "\n" .. node.type or "")))
  else
    local kind = node.type ~= "classic" and node.type and "\n" .. node.type or ""
    attributes = ('shape=box fillcolor="%s" label=%s'):format(node.dead and "#f4cccc" or "#ffffff",
      quote(node.name .. kind))
  end
  if node.foreign then attributes = attributes .. ' style="filled,dashed"' end
  return ("  %s [%s];"):format(quote(node.id), attributes)
end

local EDGE_STYLE = {
  binding = "",
  ["dead-letter"] = ' color="#cc0000" fontcolor="#cc0000" style=dashed',
  retry = ' color="#b45f06" fontcolor="#b45f06" style=dotted',
}

local function edge_line(edge)
  return ("  %s -> %s [label=%s%s];"):format(quote(edge.from), quote(edge.to), quote(edge.label), EDGE_STYLE[edge.kind])
end

--- The text of a graph.
---@param graph eventbus.Graph
---@param title string
---@return string
function dot.text(graph, title)
  local lines = {
    "digraph topology {",
    "  rankdir=LR; ranksep=1.1; nodesep=0.18; fontname=\"Helvetica\"; labelloc=t;",
    "  label=" .. quote(title) .. ";",
    '  node [fontname="Helvetica" fontsize=11 style=filled color="#666666" height=0.3 margin="0.12,0.05"];',
    '  edge [fontname="Helvetica" fontsize=9 color="#666666" arrowsize=0.6];',
  }
  for _, node in ipairs(graph.nodes) do lines[#lines + 1] = node_line(node) end
  for _, edge in ipairs(graph.edges) do lines[#lines + 1] = edge_line(edge) end
  -- One column for the queues that services read.
  local column = {}
  for _, node in ipairs(graph.nodes) do
    if node.kind == "queue" and not node.dead then column[#column + 1] = quote(node.id) end
  end
  if #column > 1 then lines[#lines + 1] = ("  { rank=same; %s; }"):format(table.concat(column, "; ")) end
  lines[#lines + 1] = "}\n"
  return table.concat(lines, "\n")
end

return dot
