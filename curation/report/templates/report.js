"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const cards = Array.from(document.querySelectorAll("#sample-list > li"));
  const status = document.getElementById("num-shown");
  const source = form.elements.namedItem("source");
  const category = form.elements.namedItem("category");
  const verdict = form.elements.namedItem("verdict");
  const update = () => {
    let shown = 0;
    for (const card of cards) {
      const fits = (!source.value || card.dataset.source === source.value) &&
        (!category.value || card.dataset.category === category.value) &&
        (!verdict.value || card.dataset.verdict === verdict.value);
      card.hidden = !fits;
      if (fits) shown += 1;
    }
    status.textContent = shown ? `${shown} of ${cards.length} shown` : "None of the samples shown here fits these filters";
  };
  form.addEventListener("change", update);
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
})();
