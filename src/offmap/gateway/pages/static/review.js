"use strict";
// Keys, clocks, and a queue that stays fresh. Every page works without any of it.
(() => {
  const OFF = "offmap-keys-off";
  const find = (what) => document.querySelector(what);
  const all = (what) => [...document.querySelectorAll(what)];
  const skew = Date.now() / 1000 - Number(document.body.dataset.now);
  const now = () => Date.now() / 1000 - skew;

  const duration = (seconds) => {
    let left = Math.max(0, Math.floor(seconds));
    const parts = [];
    for (const [name, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
      const count = Math.floor(left / size);
      left %= size;
      if (count) parts.push(`${count} ${name}`);
    }
    return parts.slice(0, 2).join(" ") || "0 s";
  };

  const warn = () => {
    const lease = find("#lease time"), due = find("#due time"), warning = find("#ending");
    if (!lease || !warning) return;
    const left = Number(lease.dataset.until) - now();
    const text = due && Number(due.dataset.until) <= now() ? "Nobody decided in time: the default applies now."
      : left <= 0 ? "Your time on this item has run out. Take more time: what you wrote stays."
      : left <= 60 ? "Less than a minute left on this item." : "";
    if (warning.textContent !== text) warning.textContent = text;
    warning.hidden = !text;
  };

  const tick = () => {
    for (const each of all("[data-until]")) each.textContent = duration(Number(each.dataset.until) - now());
    for (const each of all("[data-since]")) each.textContent = duration(now() - Number(each.dataset.since));
    warn();
  };

  // The queue as the server has it now; who is not signed in any more is led to the form.
  const refresh = async () => {
    const live = find("#live");
    if (!live || document.hidden || live.contains(document.activeElement)) return;
    try {
      const answer = await fetch("/review", { credentials: "same-origin" });
      if (answer.redirected) return location.reload();
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("live");
      if (!fresh) return;
      live.replaceWith(document.adoptNode(fresh));
      document.title = page.title;
    } catch {
      // No network for the moment: the next time will do.
    }
  };

  let place = -1;
  const step = (by) => {
    const spans = all("[data-span]");
    if (!spans.length) return;
    const focused = spans.indexOf(document.activeElement);
    const from = focused >= 0 ? focused : place >= 0 ? place : by > 0 ? -1 : 0;
    place = (from + by + spans.length) % spans.length;
    spans[place].focus({ preventScroll: true });
    spans[place].scrollIntoView({ block: "center" });
  };

  let sent = false;
  const press = (button) => {
    if (!button || button.disabled || sent) return false;
    button.click();
    return true;
  };
  document.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  addEventListener("pageshow", () => { sent = false; });

  // Built here: without scripts there are no keys to explain.
  const help = document.createElement("dialog");
  help.setAttribute("aria-labelledby", "help-title");
  const add = (parent, name, text = "", attributes = {}) => {
    const made = Object.assign(document.createElement(name), { textContent: text });
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return parent.appendChild(made);
  };
  add(help, "h1", "Keys", { id: "help-title" });
  const list = add(help, "dl", "", { class: "plain" });
  for (const [keys, meaning] of [["s", "safe"], ["u", "unsafe"], ["n", "unsure"], ["r", "release"],
    ["t", "more time"], ["c", "write a note; Escape leaves it"], ["j k", "next and previous mark; the arrows right and left too"],
    ["Enter g", "next item, or take this one"], ["q", "to the queue"], ["?", "this list"]]) {
    const term = add(list, "dt");
    for (const key of keys.split(" ")) add(term, "kbd", key);
    add(list, "dd", meaning);
  }
  const label = add(help, "label");
  const box = add(label, "input", "", { type: "checkbox" });
  label.append(" Keys are on in this browser");
  const close = add(help, "button", "Close", { type: "button" });
  close.addEventListener("click", () => help.close());
  let off = false;
  try { off = localStorage.getItem(OFF) === "1"; } catch { /* a browser that keeps nothing */ }
  box.checked = !off;
  box.addEventListener("change", () => {
    off = !box.checked;
    try { localStorage.setItem(OFF, off ? "1" : "0"); } catch { /* the same */ }
  });
  document.body.append(help);
  const opener = find("#help-open");
  if (opener) {
    opener.hidden = false;
    opener.addEventListener("click", () => help.showModal());
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing || help.open) return;
    const target = event.target;
    if (target.matches("input, textarea, select")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (off || !opener) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    let done = true;
    if (key === "?") help.showModal();
    else if (key === "j" || key === "ArrowRight") step(1);
    else if (key === "k" || key === "ArrowLeft") step(-1);
    else if (key === "q") location.assign("/review");
    else if (key === "Enter") done = !target.matches("a, button, summary") && press(find("[data-enter]"));
    else if (find(`[data-focus="${CSS.escape(key)}"]`)) find(`[data-focus="${CSS.escape(key)}"]`).focus();
    else done = press(find(`[data-key="${CSS.escape(key)}"]`));
    if (done) event.preventDefault();
  });

  tick();
  setInterval(tick, 1000);
  setInterval(refresh, 5000);
})();
