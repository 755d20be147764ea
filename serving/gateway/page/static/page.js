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
document.addEventListener("htmx:afterRequest", (event) => event.detail.successful && say(""));

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
