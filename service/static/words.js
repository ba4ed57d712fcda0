/* Elements, and numbers in words. */

export const $ = (id) => document.getElementById(id);

/* Text always enters as text: nothing on this page is ever read as HTML. */
export function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

/* Says it to a screen reader, without moving the focus. */
export const announce = (message) => { $("announce").textContent = message; };

export const count = (number) => number.toLocaleString("en");
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/* Characters as the server counts them: Unicode code points, where JavaScript counts UTF-16 units. */
export function codePoints(text) {
  let pairs = 0;
  for (let i = 0; i < text.length; i += 1) if (text.codePointAt(i) > 0xffff) { pairs += 1; i += 1; }
  return text.length - pairs;
}

export const pValue = (p) => (p >= 0.001 ? p.toFixed(3).replace(/0+$/, "").replace(/\.$/, "") : scientific(p));

export function scientific(number) {
  const [mantissa, exponent] = number.toExponential(1).split("e");
  const digits = exponent.replace("-", "⁻").replace("+", "").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
  return `${mantissa}\u00a0×\u00a010${digits}`;
}

/* Never 100 %, which neither a confidence nor a share of all texts can be. */
export const percent = (share) => (share > 0.999 ? "over 99.9\u00a0%" : `${Number((100 * share).toPrecision(3))}\u00a0%`);

export function oneIn(p) {
  const n = 1 / p;
  if (!(p > 0) || n < 1.5) return "";
  if (n < 1e4) return `1 in ${count(Math.round(n))}`;
  if (n >= 1e15) return "less than 1 in a thousand trillion";
  const [size, name] = [[1e12, "trillion"], [1e9, "billion"], [1e6, "million"], [1e3, "thousand"]].find(([limit]) => n >= limit);
  return `1 in ${count(Number((n / size).toPrecision(2)))} ${name}`;
}

/* Hands a file to the browser's downloads. */
export function save(name, json) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([json], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); /* the download may begin later */
}
