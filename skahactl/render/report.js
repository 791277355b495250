"use strict";
// Shows the titles of the charts at once, also on a tap and with the arrow keys. The page can be read without it.
(() => {
  const tip = document.getElementById("tip");
  let current = null;
  let last = null; // where the arrow keys go on: shown, about to be, or hidden since by scrolling
  const titled = (node) => {
    const found = node instanceof Element ? node.closest("rect, circle, path") : null;
    return found && found.querySelector(":scope > title") ? found : null;
  };
  const hide = () => {
    if (!current) return;
    current.classList.remove("on");
    current.querySelector("title").textContent = tip.dataset.text;
    current = null;
    tip.hidden = true;
  };
  const show = (mark, x, y) => {
    last = mark;
    if (mark !== current) {
      hide();
      const title = mark.querySelector("title");
      const lines = title.textContent.split("\n");
      tip.dataset.text = title.textContent;
      title.textContent = "";
      tip.replaceChildren(...lines.map((line, place) => {
        const row = document.createElement(place ? "span" : "strong");
        row.textContent = line;
        return row;
      }));
      mark.classList.add("on");
      current = mark;
      tip.hidden = false;
    }
    const box = tip.getBoundingClientRect();
    const left = Math.min(x + 14, innerWidth - box.width - 8);
    const below = y + 18 + box.height < innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below ? y + 18 : Math.max(8, y - box.height - 12)}px`;
  };
  const follow = (event) => {
    const mark = titled(event.target);
    if (mark) show(mark, event.clientX, event.clientY);
    else hide();
  };
  document.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") follow(event); });
  document.addEventListener("click", follow);
  document.addEventListener("scroll", hide, true);
  addEventListener("beforeprint", hide);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { hide(); last = null; return; }
    const chart = event.target instanceof Element ? event.target.closest(".plot[tabindex]") : null;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!chart || !step) return;
    const marks = [...chart.querySelectorAll("title")].map((title) => title.parentNode);
    const place = marks.indexOf(last);
    const next = marks[place < 0 ? 0 : Math.min(marks.length - 1, Math.max(0, place + step))];
    if (!next) return;
    event.preventDefault();
    last = next;
    next.scrollIntoView({ block: "nearest" });
    requestAnimationFrame(() => {
      if (last !== next) return; // another key was pressed before this frame
      const box = next.getBoundingClientRect();
      show(next, box.left, box.bottom - 10);
    });
  });
})();
