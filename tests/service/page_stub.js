// Runs the page's script without a browser: elements that keep their children and their text, and nothing else.
// stdin: {"script", "text", "result"}; stdout: what showVerdict put into the page, text as [where, characters] runs.
"use strict";
const vm = require("node:vm");
const { script, text, result } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));

class Element {
  constructor(tag) { Object.assign(this, { tag, children: [], dataset: {}, attributes: {}, hidden: false, value: "", title: "", className: "", options: [], labels: [] }); this.classList = { toggle() {} }; }
  append(...nodes) { for (const node of nodes) this.children.push(...(node.tag === "#fragment" ? node.children : [node])); }
  replaceChildren(...nodes) { this.children = []; this.append(...nodes); }
  get textContent() { return this.children.map((node) => node.textContent ?? node).join(""); }
  set textContent(text) { this.children = [String(text)]; }
  setAttribute(name, value) { this.attributes[name] = value; }
  querySelector() { return (this.part ??= new Element("part")); }
  querySelectorAll() { return []; }
  addEventListener() {} focus() {} scrollIntoView() {} removeAttribute() {} contains() { return false; }
}
const byId = {};
const document = {
  getElementById: (id) => (byId[id] ??= new Element("div")),
  createElement: (tag) => new Element(tag),
  createDocumentFragment: () => new Element("#fragment"),
  createTextNode: (text) => text,
};
const context = vm.createContext({ document, console, Option: Element, fetch: () => new Promise(() => {}), setTimeout() {}, result, text });
vm.runInContext(script, context);
vm.runInContext("showVerdict(text, result)", context);

function runs(node, where) {
  if (typeof node === "string") return [[where, node]];
  if (node.className === "unseen") return [];
  const inside = node.className === "passage" ? node.id : where;
  return node.children.flatMap((child) => runs(child, inside));
}
const merged = [];
for (const [where, piece] of runs(byId["evidence-text"] ?? new Element("div"), null)) {
  if (merged.length && merged.at(-1)[0] === where) merged.at(-1)[1] += piece;
  else merged.push([where, piece]);
}
const table = byId["passage-rows"].children.map((row) => row.children.map((cell) => cell.textContent));
const facts = Object.fromEntries(byId.facts.children.map((fact) => fact.children.map((part) => part.textContent)));
console.log(JSON.stringify({ title: byId["verdict-title"].textContent, announced: byId.announce.textContent, runs: merged, table, facts, evidence: !byId.evidence.hidden, passages: !byId.passages.hidden }));
