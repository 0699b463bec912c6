// Makes a page live: what is shown is always what the daemon renders. It is asked for again whenever something happens,
// and what differs is put in place, so that focus, selection and what is unfolded stay.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const KEPT = 2000;
  let events = null;
  let log = null;
  let owned = false;
  let ended = null;
  let over = false;
  let asking = false;
  let again = false;
  let due = 0;
  let retry = 0;

  // Makes `old` equal to `now`, changing only what differs; what has an id stays the element that it was.
  function morph(old, now) {
    if (old.nodeName !== now.nodeName || (old.id || "") !== (now.id || "")) {
      old.replaceWith(document.importNode(now, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== now.nodeValue) old.nodeValue = now.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!now.hasAttribute(name) && !(old.nodeName === "DETAILS" && name === "open")) old.removeAttribute(name);
    }
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    // What the user types, and what the log brings, is theirs.
    if (old.nodeName === "INPUT" || old.id === "found" || (old.id === "log" && owned)) return;
    let at = old.firstChild;
    for (const child of [...now.childNodes]) {
      const same = child.id ? [...old.children].find((known) => known.id === child.id) : null;
      if (same && same !== at) old.insertBefore(same, at);
      if (!same && (!at || at.id || child.id)) {
        old.insertBefore(document.importNode(child, true), at);
        continue;
      }
      const next = same && same !== at ? at : at.nextSibling;
      morph(same || at, child);
      at = next;
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function show(text) {
    const now = new DOMParser().parseFromString(text, "text/html");
    if (!now.querySelector("main")) return;
    document.title = now.title;
    const card = document.activeElement?.closest(".unit")?.id;
    morph(document.querySelector("main"), now.querySelector("main"));
    // Who pressed a button that is not there any more stays at its unit.
    if (card && !byId(card)?.contains(document.activeElement)) {
      byId(card)?.querySelector("button:not(:disabled), a")?.focus({ preventScroll: true });
    }
    search();
    follow();
  }

  function lost(is) {
    byId("lost").textContent = is ? "The connection to the daemon is lost. What you see is old; trying again..." : "";
  }

  async function refresh() {
    // What would be done is asked for once, and stays as it was read.
    if (document.querySelector("main [data-once]")) return;
    if (asking || over) {
      again = asking;
      return;
    }
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const text = await answer.text();
      over = answer.status === 401;
      lost(false);
      show(text);
    } catch {
      lost(true);
    }
    asking = false;
    if (again) {
      again = false;
      soon();
    }
  }

  function soon() {
    if (!due) {
      due = setTimeout(() => {
        due = 0;
        refresh();
      }, 150);
    }
  }

  function connect() {
    retry = 0;
    if (events || over || document.hidden) return;
    const stream = new EventSource("/v1/events");
    events = stream;
    stream.onopen = () => {
      lost(false);
      // A log that broke off with the daemon goes on.
      ended = null;
      refresh();
      follow();
    };
    stream.onerror = () => {
      leave();
      refresh();
      if (!retry) retry = setTimeout(connect, 1000);
    };
    for (const kind of ["deed", "state", "drift", "operation", "version", "left", "gap"]) stream.addEventListener(kind, happened);
  }

  function happened(event) {
    const what = JSON.parse(event.data);
    if (event.type === "state") byId("heard").textContent = `${what.name}: ${what.state.state.replace("_", " ")}`;
    soon();
  }

  function leave() {
    events?.close();
    log?.close();
    events = log = null;
  }

  // Takes over the log from what was rendered, from its first line on; an end of it is the end of what the unit says.
  function follow() {
    const list = byId("log");
    if (!list?.dataset.from || log || !events || ended === list.dataset.run) return;
    const stream = new EventSource(list.dataset.from);
    const run = list.dataset.run;
    log = stream;
    let lines = null;
    let waits = 0;
    const put = () => {
      waits = 0;
      const low = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
      list.append(...lines.splice(0).map((text) => {
        const line = document.createElement("li");
        line.textContent = text;
        return line;
      }));
      while (list.childElementCount > KEPT) list.firstElementChild.remove();
      search();
      if (low) list.scrollTop = list.scrollHeight;
    };
    stream.addEventListener("line", (event) => {
      if (!lines) {
        lines = [];
        owned = true;
        list.replaceChildren();
      }
      lines.push(JSON.parse(event.data).line);
      if (lines.length > KEPT) lines.shift();
      if (!waits) waits = setTimeout(put, 50);
    });
    stream.onerror = () => {
      stream.close();
      if (log !== stream) return;
      log = null;
      // Without a stream, what is rendered is shown.
      if (!lines) owned = false;
      ended = run;
    };
  }

  function search() {
    const field = byId("search");
    const list = byId("log");
    if (!field || !list) return;
    const words = field.value.toLowerCase();
    let fit = 0;
    for (const line of list.children) {
      line.hidden = !line.textContent.toLowerCase().includes(words);
      fit += line.hidden ? 0 : 1;
    }
    byId("found").textContent = words ? `${fit} of ${list.childElementCount} lines` : "";
  }

  document.addEventListener("input", (event) => {
    if (event.target.id === "search") search();
  });

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    event.preventDefault();
    if (form.method !== "post") {
      search();
      return;
    }
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    byId("said").textContent = "";
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      const now = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok && "leads" in form.dataset && answer.url !== location.href) {
        location.assign(answer.url);
        return;
      }
      if (!answer.ok) byId("said").textContent = now.querySelector("main")?.textContent ?? "It was refused.";
    } catch {
      lost(true);
    }
    delete form.dataset.busy;
    refresh();
  });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) leave();
    else connect();
  });

  // Countdowns are rendered, too: every second where one runs, else every five, for what nobody tells of.
  let second = 0;
  setInterval(() => {
    second += 1;
    if (document.hidden) return;
    if (document.querySelector("main [data-ticks]") || second % 5 === 0) refresh();
  }, 1000);

  const list = byId("log");
  if (list) list.scrollTop = list.scrollHeight;
  search();
  connect();
})();
