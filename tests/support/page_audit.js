// What is wrong with the page as it is laid out now: a list of sentences. Run in the page by tests.
(() => {
  const wrong = [], all = (css) => [...document.querySelectorAll(css)];
  const shown = (each) => each.getClientRects().length > 0 && getComputedStyle(each).visibility !== "hidden";
  const called = (each) => `<${each.tagName.toLowerCase()}${each.id ? "#" + each.id : ""}> ${each.textContent.trim().slice(0, 40)}`;
  const away = (each) => each.closest(".skip, thead") !== null;   // off the screen on purpose, where it is

  // Layout
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`scrolls sideways: ${document.documentElement.scrollWidth} > ${innerWidth}`);
  for (const each of all("body *")) {
    const box = each.getBoundingClientRect();
    if (shown(each) && !away(each) && box.width && (box.right > innerWidth + 1 || box.left < -1)) wrong.push(`sticks out: ${called(each)}`);
  }
  for (const each of all("button, input")) if (shown(each) && each.getBoundingClientRect().height < 44) wrong.push(`small to touch: ${called(each)}`);

  // Contrast of every piece of text against what is painted behind it
  const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const each = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !shown(each) || away(each) || each.closest("script, style, noscript")) continue;
    texts += 1;
    const style = getComputedStyle(each), size = parseFloat(style.fontSize);
    const [one, two] = [light(rgb(style.color)), light(behind(each))].sort((a, b) => b - a);
    const ratio = (one + .05) / (two + .05), enough = size >= 24 ? 3 : 4.5;
    if (ratio < enough) wrong.push(`contrast ${ratio.toFixed(2)}: ${called(each)}`);
    if (size < 13) wrong.push(`small text, ${size}px: ${called(each)}`);
  }
  if (!texts) wrong.push("no text at all");

  // Structure
  if (!document.documentElement.lang) wrong.push("no language");
  if (!document.title) wrong.push("no title");
  for (const css of ["header", "main", "footer", "h1"]) if (all(css).length !== 1) wrong.push(`${all(css).length} × ${css}`);
  const ids = all("[id]").map((each) => each.id);
  for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) wrong.push(`id twice: ${id}`);
  let level = 0;
  for (const each of all("h1, h2, h3, h4")) {
    if (!shown(each)) continue;
    const next = Number(each.tagName[1]);
    if (next > level + 1) wrong.push(`heading skips a level: ${called(each)}`);
    level = next;
  }
  for (const each of all("section")) {
    const label = document.getElementById(each.getAttribute("aria-labelledby") || "");
    if (!label || !label.textContent.trim()) wrong.push(`section without a name: ${called(each)}`);
  }
  for (const each of all("table")) {
    if (!shown(each)) continue;
    if (!each.caption && !each.getAttribute("aria-labelledby")) wrong.push(`table without a name: ${called(each)}`);
    for (const head of each.querySelectorAll("th")) if (!head.scope) wrong.push(`header of what: ${called(head)}`);
  }
  for (const each of all("input")) if (!each.labels.length) wrong.push(`field without a label: ${called(each)}`);
  for (const each of all("button, a")) if (!each.textContent.trim()) wrong.push(`nameless: ${called(each)}`);
  for (const each of all("[aria-describedby], [aria-labelledby]")) {
    const id = each.getAttribute("aria-describedby") || each.getAttribute("aria-labelledby");
    if (!document.getElementById(id)) wrong.push(`names nothing: ${id}`);
  }
  for (const each of all("[tabindex]")) if (each.tabIndex > 0) wrong.push(`order of its own: ${called(each)}`);
  for (const each of all("[style]")) if (each.getAttribute("style").includes("url(")) wrong.push(`loads something: ${called(each)}`);
  return [...new Set(wrong)];
})()
