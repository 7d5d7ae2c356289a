// Keeps an open page true: ages, countdowns, and what the evidence log says, without taking focus or typed text away.
"use strict";

document.querySelector("form[data-send]")?.requestSubmit(); // the way back from the identity provider

const CLOCK_EVERY = 1000;
const SETTLE = 120; // ms: events come in bursts, one look at the page is enough for all of them
const RETRY = 2000;
const POLL_EVERY = 5000;

let last = Number(document.body.dataset.after ?? -1);
let source = null;
let refreshing = false;
let again = false;

function coarse(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tick() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-age]")) {
    const seconds = Math.floor((now - Date.parse(element.dateTime)) / 1000);
    setText(element, seconds < 60 ? "just now" : `${coarse(seconds)} ago`);
  }
  for (const element of document.querySelectorAll("[data-countdown]")) {
    const seconds = Math.floor((Date.parse(element.dataset.countdown) - now) / 1000);
    const soon = seconds < 600 ? `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s` : coarse(seconds);
    setText(element, seconds <= 0 ? "expired" : seconds < 60 ? `${seconds} s left` : `${soon} left`);
    element.classList.toggle("expired", seconds < 60);
  }
}

function say(state, text) {
  const element = document.getElementById("connection");
  if (!element) return;
  element.dataset.state = state;
  setText(element, text);
}

const said = (field) => (field.type === "checkbox" || field.type === "radio" ? "checked" : "value");

// What a person has done to a region: text typed, choices made, details opened, where the focus is.
function remember(region) {
  const fields = new Map();
  for (const field of region.querySelectorAll("input[id], textarea[id], select[id]")) fields.set(field.id, field[said(field)]);
  const open = new Set([...region.querySelectorAll("details[id][open]")].map((details) => details.id));
  const active = region.contains(document.activeElement) ? document.activeElement : null;
  const summary = active?.tagName === "SUMMARY" ? active.parentElement.id : "";
  const selection = active && "selectionStart" in active ? [active.selectionStart, active.selectionEnd] : null;
  return { fields, open, active, summary, selection };
}

function restore(region, memory, touched) {
  for (const field of region.querySelectorAll("input[id], textarea[id], select[id]")) {
    if (touched.has(field.id) && memory.fields.has(field.id)) field[said(field)] = memory.fields.get(field.id);
  }
  for (const details of region.querySelectorAll("details[id]")) {
    if (memory.open.has(details.id)) details.open = true;
  }
  if (!memory.active) return;
  const same = memory.summary
    ? document.getElementById(memory.summary)?.querySelector("summary")
    : memory.active.id && document.getElementById(memory.active.id);
  if (same) {
    same.focus({ preventScroll: true });
    if (memory.selection && "setSelectionRange" in same) same.setSelectionRange(...memory.selection);
  } else {
    region.setAttribute("tabindex", "-1");
    region.focus({ preventScroll: true });
  }
}

const touched = new Set();
document.addEventListener("input", (event) => touched.add(event.target.id));

// Two renderings are the same when they differ only in what the clock says.
function essence(region) {
  const copy = region.cloneNode(true);
  for (const element of copy.querySelectorAll("time[data-age], [data-countdown]")) {
    element.textContent = "";
    element.removeAttribute("class");
  }
  for (const details of copy.querySelectorAll("details")) details.removeAttribute("open");
  copy.removeAttribute("tabindex");
  return copy.innerHTML;
}

function mergeList(now, next) {
  for (const child of [...now.children]) if (!child.id) child.remove();
  let place = null; // entries never change and never move: only new ones are put in
  for (const child of [...next.children].reverse()) {
    const known = child.id && document.getElementById(child.id);
    if (known) {
      place = known;
      continue;
    }
    child.classList.add("fresh");
    now.insertBefore(child, place);
    place = child;
  }
}

function adopt(page) {
  for (const region of document.querySelectorAll("[data-live]")) {
    const next = page.getElementById(region.id);
    if (!next) continue;
    if (region.dataset.live === "list") {
      mergeList(region, next);
    } else if (essence(region) !== essence(next)) {
      const memory = remember(region);
      region.replaceChildren(...next.childNodes);
      restore(region, memory, touched);
    }
  }
  document.title = page.title;
  const reached = Number(page.body.dataset.after ?? -1);
  if (reached > last) last = reached;
  tick();
  look();
}

// Who has a question open before their eyes has seen it: said once, by a form that also works as a button.
const looked = new Set();
function look() {
  if (document.visibilityState !== "visible") return;
  for (const form of document.querySelectorAll("form[data-seen]")) {
    const seen = `${form.action} ${form.dataset.seen}`;
    if (looked.has(seen)) continue;
    looked.add(seen);
    const body = new URLSearchParams(new FormData(form));
    fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() => looked.delete(seen));
  }
}

async function refresh() {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = true;
  try {
    await new Promise((resolve) => setTimeout(resolve, SETTLE));
    do {
      again = false;
      const response = await fetch(location.pathname, { headers: { Accept: "text/html" }, redirect: "manual" });
      if (response.type === "opaqueredirect") {
        source?.close();
        say("trouble", "signed out: reload to sign in");
        return;
      }
      if (!response.ok) throw new Error(String(response.status));
      adopt(new DOMParser().parseFromString(await response.text(), "text/html"));
    } while (again);
    if (source?.readyState === EventSource.OPEN) say("live", "live");
  } catch {
    say("reconnecting", "reconnecting");
    setTimeout(refresh, RETRY);
  } finally {
    refreshing = false;
  }
}

function listen() {
  const address = document.body.dataset.events;
  if (!address || document.visibilityState !== "visible") return;
  source?.close();
  source = new EventSource(`${address}?after=${last}`);
  let broken = false;
  source.addEventListener("open", () => {
    say("live", "live");
    if (broken) refresh();
    broken = false;
  });
  source.addEventListener("evidence", (event) => {
    last = Math.max(last, Number(event.lastEventId));
    refresh();
  });
  source.addEventListener("trouble", () => say("trouble", "the ledger does not answer"));
  source.addEventListener("recovered", () => {
    say("live", "live");
    refresh();
  });
  source.addEventListener("error", () => {
    broken = true;
    say("reconnecting", "reconnecting");
    if (source.readyState === EventSource.CLOSED) {
      // An answer that is not a stream ends an EventSource for good: start another one.
      setTimeout(wake, RETRY);
    }
  });
}

function wake() {
  look();
  listen();
  refresh();
}

// A second click must not send a form again while the first is on its way.
document.addEventListener("submit", (event) => {
  for (const button of event.target.querySelectorAll("button")) setTimeout(() => (button.disabled = true), 0);
});
window.addEventListener("pageshow", (event) => {
  for (const button of document.querySelectorAll("button:disabled")) button.disabled = false;
  if (event.persisted) wake();
});
window.addEventListener("pagehide", () => source?.close());
// A browser has six connections to us for all its tabs: one that nobody sees lets its own go.
document.addEventListener("visibilitychange", () => {
  source?.close();
  if (document.visibilityState === "visible") wake();
});

tick();
look();
setInterval(tick, CLOCK_EVERY);
// What is read again and again leaves no event in the log: ask for it while somebody looks.
setInterval(() => {
  if (document.visibilityState === "visible" && document.querySelector("[data-poll]")) refresh();
}, POLL_EVERY);
listen();
