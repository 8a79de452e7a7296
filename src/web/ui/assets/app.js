// Keeps a page up to date without anybody noticing: asks for the same page again and puts in the parts that changed.
"use strict";

(() => {
  const EVERY = 5000;
  const PATIENCE = 10000;

  const main = document.getElementById("main");
  const lost = document.getElementById("lost");

  // Times in the reader's own time zone; the title has them in UTC.
  const localise = (root) => {
    const today = new Date().toDateString();
    for (const time of root.querySelectorAll("time[data-local]")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) {
        continue;
      }
      const isToday = at.toDateString() === today;
      const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
      if (isToday && time.dataset.local === "seconds") {
        clock.second = "2-digit";
      }
      const date = isToday || time.dataset.local === "day" ? {} : { day: "numeric", month: "short" };
      time.textContent = at.toLocaleString("en-GB", { ...date, ...clock });
    }
  };
  localise(document);

  // What an action did is told once, not again after a reload. While the page is open it says what became of it.
  const source = location.href;
  if (new URLSearchParams(location.search).has("notice")) {
    history.replaceState(null, "", location.pathname + location.hash);
  }

  if (!main || !("live" in main.dataset)) {
    return;
  }

  let timer = 0;
  let stopped = false;

  const later = () => {
    clearTimeout(timer);
    if (!stopped && !document.hidden) {
      timer = setTimeout(refresh, EVERY);
    }
  };

  const isBusy = () => {
    const selection = getSelection();
    const selects = selection && !selection.isCollapsed && main.contains(selection.anchorNode);
    const types = [...main.querySelectorAll("input")].some((input) => input.value !== input.defaultValue);
    return selects || types || main.querySelector(":active") !== null;
  };

  const keepOpen = (old, fresh) => {
    for (const details of old.querySelectorAll("details[id][open]")) {
      const same = fresh.querySelector("#" + CSS.escape(details.id));
      if (same) {
        same.open = true;
      }
    }
  };

  const put = (fresh) => {
    const { scrollX, scrollY } = window;
    const focused = main.contains(document.activeElement) ? document.activeElement.id : "";
    const have = [...main.children];
    const want = [...fresh.children];
    const matches = have.length === want.length && have.every((part, place) => part.id === want[place].id);
    if (matches) {
      have.forEach((part, place) => {
        if (part.outerHTML !== want[place].outerHTML) {
          keepOpen(part, want[place]);
          part.replaceWith(want[place]);
        }
      });
    } else {
      keepOpen(main, fresh);
      main.replaceChildren(...want);
    }
    if (focused && document.activeElement.id !== focused) {
      document.getElementById(focused)?.focus({ preventScroll: true });
    }
    scrollTo(scrollX, scrollY);
  };

  const refresh = async () => {
    try {
      const answer = await fetch(source, {
        credentials: "same-origin",
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE),
      });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (answer.status === 401 || answer.status === 404) {
        // Logged out, perhaps elsewhere: what was to be seen goes, and the log-in form comes.
        stopped = true;
        location.reload();
        return;
      }
      if (!answer.ok || !fresh) {
        throw new Error("no status page: " + answer.status);
      }
      localise(fresh);
      lost.hidden = true;
      if (!isBusy()) {
        document.title = page.title;
        put(fresh);
      }
    } catch {
      lost.hidden = false;
    } finally {
      later();
    }
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
    } else if (!stopped) {
      refresh();
    }
  });
  addEventListener("submit", () => {
    stopped = true;
    clearTimeout(timer);
  });
  // Back from another page without a new load.
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      stopped = false;
      refresh();
    }
  });
  later();
})();
