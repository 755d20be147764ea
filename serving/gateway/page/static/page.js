// What htmx does not do by itself: errors in words, media events that do not bubble, and how many boxes are ticked.
"use strict";
const message = document.getElementById("message");

function say(text) {
  message.textContent = text;
  message.hidden = !text;
}

document.addEventListener("htmx:responseError", (event) => {
  let detail = "the request failed";
  try {
    detail = JSON.parse(event.detail.xhr.responseText).detail || detail;
  } catch {
    // not a problem document
  }
  say(detail);
});
document.addEventListener("htmx:sendError", () => say("the service cannot be reached"));
document.addEventListener("htmx:beforeRequest", () => say(""));

// What is swapped keeps the place in a table, and the focus near where it was.
const places = new Map();
document.addEventListener("htmx:beforeSwap", (event) => {
  for (const box of event.detail.target.querySelectorAll(".scroll[id]")) {
    places.set(box.id, box.scrollLeft);
  }
});
document.addEventListener("htmx:afterSettle", (event) => {
  for (const [id, left] of places) {
    const box = document.getElementById(id);
    if (box) {
      box.scrollLeft = left;
    }
  }
  places.clear();
  if (event.detail.target.id === "listening" && event.detail.requestConfig.verb === "post") {
    say("The list has changed.");
    if (document.activeElement === document.body) {
      document.getElementById("recommended").focus();
    }
  }
});

// A medium tells once that it plays and once that it has ended.
for (const name of ["play", "ended"]) {
  document.addEventListener(name, (event) => {
    const player = event.target.closest && event.target.closest(".player");
    const teller = player && player.querySelector(`[data-once="${name}"]`);
    if (teller) {
      teller.removeAttribute("data-once");
      htmx.trigger(teller, `${name}-once`);
    }
  }, true);
}

for (const button of document.querySelectorAll("button[data-needs]")) {
  const boxes = () => button.form.querySelectorAll("input[type=checkbox]:checked").length;
  const check = () => { button.disabled = boxes() < Number(button.dataset.needs); };
  button.form.addEventListener("change", check);
  check();
}
