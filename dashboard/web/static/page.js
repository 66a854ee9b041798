"use strict";

// Keeps the page up to date: every two seconds it asks the server for the page again and changes only what differs, so
// that the focus, the selection and the place of the reader stay. Without this script the page reloads itself.

const every = 2000;
const patience = 10000;

// morph makes the element `have` like `want`. Children with an id are told by it, all others by their place.
function morph(have, want) {
  for (const { name } of [...have.attributes]) {
    if (!want.hasAttribute(name)) have.removeAttribute(name);
  }
  for (const { name, value } of want.attributes) {
    if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  let at = have.firstChild;
  for (const child of want.childNodes) {
    let same = child.id ? [...have.children].find((c) => c.id === child.id) : at;
    if (!same || same.nodeName !== child.nodeName || (same.id || "") !== (child.id || "")) {
      have.insertBefore(document.importNode(child, true), at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else have.insertBefore(same, at);
    if (child.nodeType === Node.ELEMENT_NODE) morph(same, child);
    else if (same.nodeValue !== child.nodeValue) same.nodeValue = child.nodeValue;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const connection = document.getElementById("connection");

function say(state) {
  if (connection.className === state) return;
  connection.className = state;
  connection.textContent = connection.dataset[state];
}

async function refresh() {
  const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(patience) });
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  morph(document.querySelector("main"), page.querySelector("main"));
  document.title = page.title;
}

let next;

// look refreshes once and again later: one at a time, so that an old answer never comes after a newer one.
async function look() {
  if (next === undefined) return;
  clearTimeout(next);
  next = undefined;
  if (!document.hidden) {
    try {
      await refresh();
      say("live");
    } catch {
      say("lost");
    }
  }
  next = setTimeout(look, every);
}

say("live");
next = setTimeout(look, every);
document.addEventListener("visibilitychange", look);
