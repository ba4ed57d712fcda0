// Measures the contrast (WCAG 2.2) of every text that is shown and of every control's edge against what lies behind it.
// Gives {texts, edges, faint}: how many were measured, and which of them are too faint.
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const hidden = (element) => !element.checkVisibility() || element.closest(".unseen, .skip, :disabled, noscript, option");
  const found = { texts: 0, edges: 0, faint: [] };
  const text = (element, style, background, what) => {
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const contrast = ratio(over(parse(style.color), background), background);
    found.texts += 1;
    if (contrast < (large ? 3 : 4.5)) found.faint.push([what.slice(0, 40), element.className || element.id || element.tagName, contrast.toFixed(2)]);
  };

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.data.trim();
    if (words && !hidden(element)) text(element, getComputedStyle(element), behind(element), words);
  }
  for (const element of document.querySelectorAll("input:not([type=checkbox], [type=range]), select, textarea")) {
    if (hidden(element)) continue;
    text(element, getComputedStyle(element), behind(element), element.value || element.id);
    if (element.placeholder) text(element, getComputedStyle(element, "::placeholder"), behind(element), element.placeholder);
  }
  for (const element of document.querySelectorAll(".passage")) {
    if (hidden(element)) continue;
    for (const part of ["::before", "::after"]) {
      const style = getComputedStyle(element, part);
      text(element, style, over(parse(style.backgroundColor), behind(element)), part);
    }
  }
  for (const element of document.querySelectorAll("button, select, textarea, input:not([type=range], [type=file])")) {
    if (hidden(element)) continue;
    const style = getComputedStyle(element), around = behind(element.parentElement);
    if (parseFloat(style.borderTopWidth) === 0 && !element.matches("[role=switch]")) continue;
    const edge = element.matches("[role=switch]") ? style.backgroundColor : style.borderTopColor;
    found.edges += 1;
    const contrast = ratio(over(parse(edge), around), around);
    if (contrast < 3) found.faint.push(["edge", element.id || element.textContent, contrast.toFixed(2)]);
  }
  return found;
}
