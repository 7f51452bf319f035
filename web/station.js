// Plays a station's segments one after the other. Every load of the list comes
// with fresh links, which are renewed before they expire; a link that a segment
// plays from is left alone.

const audio = document.getElementById("audio");
const list = document.getElementById("segments");
const more = document.getElementById("more");
const now = document.getElementById("now");
const said = document.getElementById("said");
const report = document.getElementById("report"); // may not be there
const address = document.body.dataset.segments;

const segments = new Map(); // by CID, in the order of the station
const cursors = [""]; // of the pages that are shown
let next = ""; // cursor of the page after them
let current = ""; // CID
let timer = 0;
let doubt = 0; // timer
let failures = 0; // in a row, of the segment that plays

// words are for people who have a link, and not a program with a token.
const words = {
  credential_revoked: "Your access to this station was ended.",
  credential_expired: "Your time here is over. Open the link that you were given again.",
  credential_missing: "Open the link that you were given again.",
};

// page fetches one page of the list. It throws when the listener may not listen
// any more, or the node cannot be reached.
async function page(cursor) {
  const response = await fetch(address + (cursor ? "?cursor=" + encodeURIComponent(cursor) : ""), { cache: "no-store" });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const refused = new Error(words[body.code] || body.detail || "The station cannot be reached.");
    refused.ended = response.status === 401 || response.status === 403 || response.status === 404;
    throw refused;
  }
  return body;
}

// load fetches all pages that are shown, and sets when they are to be renewed.
async function load() {
  clearTimeout(timer);
  let validFor = Infinity;
  for (const cursor of cursors) {
    const body = await page(cursor);
    for (const segment of body.segments) {
      segments.set(segment.cid, segment);
      show(segment);
    }
    next = body.next || "";
    validFor = Math.min(validFor, body.valid_for);
  }
  more.hidden = next === "";
  said.textContent = segments.size ? "" : "Nothing is playing here yet.";
  timer = setTimeout(renew, Math.max(1, validFor / 2) * 1000);
}

async function renew() {
  try {
    await load();
  } catch (refused) {
    refuse(refused);
  }
}

// refuse ends the page for who may not listen any more, and tries again later
// when the node is only away.
function refuse(refused) {
  clearTimeout(timer);
  if (!refused.ended) {
    said.textContent = "The station cannot be reached. Trying again.";
    timer = setTimeout(renew, 5000);
    return;
  }
  current = "";
  audio.pause();
  audio.removeAttribute("src");
  audio.load();
  list.replaceChildren();
  more.hidden = true;
  now.textContent = "";
  said.textContent = "Access denied. " + refused.message;
  document.body.dataset.state = "ended";
}

// show puts a segment into the list, once.
function show(segment) {
  let item = document.getElementById(segment.cid);
  if (!item) {
    item = document.createElement("li");
    item.id = segment.cid;
    const play = document.createElement("button");
    play.type = "button";
    play.textContent = name(segment);
    play.addEventListener("click", () => start(segment.cid));
    const length = document.createElement("span");
    length.className = "small";
    length.textContent = clock(segment.duration_ms);
    item.append(play, length);
    list.append(item);
  }
  let save = item.querySelector("a");
  if (!segment.download) {
    save?.remove();
    return;
  }
  if (!save) {
    save = document.createElement("a");
    save.textContent = "Save";
    item.append(save);
  }
  save.href = segment.download;
}

function name(segment) {
  const title = segment.title || "Untitled";
  return segment.artist ? segment.artist + ": " + title : title;
}

function clock(ms) {
  if (!ms) return "";
  const s = Math.round(ms / 1000);
  return Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0");
}

// start plays a segment, from a time on.
async function start(cid, at = 0) {
  current = cid;
  for (const item of list.children) {
    item.firstChild.setAttribute("aria-current", String(item.id === cid));
  }
  const segment = segments.get(cid);
  now.textContent = name(segment);
  if (report) {
    report.search = "?about=" + cid;
    report.textContent = "Report this segment";
  }
  audio.src = segment.url;
  if (at > 0) audio.currentTime = at;
  try {
    await audio.play();
  } catch {
    // The element says why by an error event, or the browser wants a click.
  }
}

audio.addEventListener("playing", () => { failures = 0; });

audio.addEventListener("ended", () => {
  const order = [...segments.keys()];
  const following = order[order.indexOf(current) + 1];
  if (following) start(following);
});

// A stream that broke goes on with a fresh link where it was, unless the list
// says that it may not.
audio.addEventListener("error", async () => {
  if (!current || !audio.getAttribute("src")) return;
  const at = audio.currentTime;
  try {
    await load();
    failures++;
    if (failures < 4 && current) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * (failures - 1)));
      await start(current, at);
    } else {
      said.textContent = "This segment cannot be played now.";
    }
  } catch (refused) {
    refuse(refused);
  }
});

// A browser tries for a while to get more of a stream that was cut before it
// tells of an error, so when audio runs out the list is asked whether that is
// because it may not be heard any more.
for (const event of ["waiting", "stalled"]) {
  audio.addEventListener(event, () => {
    clearTimeout(doubt);
    doubt = setTimeout(() => {
      if (current && !audio.paused && audio.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) renew();
    }, 1000);
  });
}

audio.addEventListener("play", () => {
  if (!current && segments.size) start(segments.keys().next().value);
});

more.addEventListener("click", () => {
  if (next) cursors.push(next);
  renew();
});

renew();
