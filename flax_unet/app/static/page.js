// The list of files: sends them, follows the queue, and shows the result of the one that is chosen.

import { openCamera } from "./camera.js";
import { start } from "./report.js";

const get = (id) => document.getElementById(id);
const report = get("report"), list = get("files"), picker = get("file");
const welcome = report.innerHTML;
const most = Number(document.body.dataset.most);
const key = [...crypto.getRandomValues(new Uint8Array(16))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");
const home = `sessions/${key}`;

const sending = new Map(); // by a number: files that are being sent, or that were refused
const pictures = new Map(); // by a file's key: the address of a small picture
let state = { waiting: 0, files: [] };
let chosen = null; // the key of the file whose result is shown
let shown = null; // what is shown now: the chosen file and the number of its result
let numbers = 0;
let isLost = false; // the connection
let notice = ""; // what happened to the connection and the files, unasked
const removed = new Set(); // the keys of files that the visitor has removed

// The answer to a request; of one that does not arrive, a message.
async function ask(address, method = "GET") {
  try {
    const answer = await fetch(address, { method });
    return { ok: answer.ok, isLost: answer.status >= 500, text: await answer.text() };
  } catch {
    const text = "The computer that runs this page does not answer. Check your connection.";
    return { ok: false, isLost: true, text };
  }
}

function megabytes(bytes) {
  return `${Math.max(1, Math.round(bytes / 2 ** 20))} MB`;
}

function options() {
  const value = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  return new URLSearchParams({ mode: value("mode"), way: value("way"), count: get("count").value });
}

// Sending

function add(files) {
  const keys = [...files].map(enter);
  chosen = keys[0] ?? chosen;
  if (!isLost) notice = "";
  draw();
}

let sent = Promise.resolve(); // of the files before: they go one after the other, in order

function enter(file) {
  const number = `sending-${numbers++}`;
  const one = { key: number, name: file.name, state: "sending", share: 0 };
  if (file.type.startsWith("image/")) pictures.set(number, URL.createObjectURL(file));
  sending.set(number, one);
  if (file.size > most) {
    refuse(one, `It has ${megabytes(file.size)}; the maximum allowed size is ${megabytes(most)}. `
      + "Make it smaller: cut a video to the part that matters, or export it at a lower quality.");
  } else {
    sent = sent.then(() => sending.has(number) && new Promise((done) => send(file, one, done)));
  }
  return number;
}

const buffered = 2 ** 20; // bytes that may have arrived although the browser does not say so

function send(file, one, done) {
  const number = one.key;
  let left = file.size;
  const request = new XMLHttpRequest(); // fetch() does not say how much was sent
  const asked = options();
  asked.set("name", file.name);
  request.open("POST", `${home}/files?${asked}`);
  request.upload.onprogress = ({ loaded, total }) => {
    one.share = total ? loaded / total : 0;
    left = total - loaded;
    draw();
  };
  request.onload = () => {
    if (request.status !== 201) {
      return refuse(one, request.responseText || "The page refused it. Load the page again.");
    }
    sending.delete(number);
    if (one.unwanted) return discard(request.responseText);
    if (pictures.has(number)) pictures.set(request.responseText, pictures.get(number));
    pictures.delete(number);
    if (chosen === number) chosen = request.responseText;
    draw();
  };
  request.onerror = () => refuse(one, "It did not arrive. Check your connection.");
  request.onabort = () => forget(number);
  request.onloadend = done;
  // One that may have arrived is removed once the server has named it.
  one.abort = () => { if (left > buffered) request.abort(); };
  request.send(file);
  draw();
}

function refuse(one, message) {
  if (one.unwanted) return forget(one.key);
  Object.assign(one, { state: "refused", message });
  draw();
}

function forget(number) {
  sending.delete(number);
  if (chosen === number) chosen = null;
  draw();
}

// The list

function words(file) {
  switch (file.state) {
    case "sending":
      return file.abort ? `Sending: ${Math.round(100 * file.share)} %` : "Waiting to be sent";
    case "refused": return "Not sent";
    case "waiting":
      return file.before
        ? `Waiting: ${file.before} ${file.before === 1 ? "file" : "files"} before it`
        : "Waiting: it is next";
    case "judging":
      return file.total ? `Judging: ${file.done} of ${file.total} frames` : "Judging";
    default: return { failed: "Not judged", none: "No verdict", open: "Too close to call",
      real: "Looks real", fake: "Looks forged", part: "Looks forged in part" }[file.kind];
  }
}

function share(file) {
  if (file.state === "sending") return file.share;
  return file.state === "judging" ? (file.total ? file.done / file.total : null) : undefined;
}

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function row(file) {
  const open = make("button", { type: "button", className: "pick" });
  const thumb = make("span", { className: "thumb" });
  const status = make("span", { className: "status" });
  const bar = make("progress", { max: 1 });
  bar.setAttribute("aria-label", `Progress of ${file.name}`);
  open.append(thumb, make("span", { className: "name", textContent: file.name }), status);
  open.onclick = () => choose(file.key);
  const away = make("button", { type: "button", className: "away", textContent: "×" });
  away.onclick = () => remove(file.key);
  const item = make("li", {}, open, away, bar);
  item.dataset.key = file.key;
  return item;
}

function fill(item, file) {
  const kind = file.state === "done" ? file.kind : file.state;
  const [open, away, bar] = item.children;
  item.className = kind;
  open.setAttribute("aria-current", file.key === chosen);
  open.querySelector(".status").textContent = words(file);
  const picture = pictures.get(file.key), thumb = open.querySelector(".thumb");
  thumb.dataset.kind = file.name.split(".").pop().slice(0, 4);
  if (picture && !thumb.firstChild) {
    const image = make("img", { alt: "", src: picture });
    image.onerror = () => image.remove(); // a kind of picture that this browser does not show
    thumb.append(image);
  }
  const busy = ["sending", "waiting", "judging"].includes(file.state);
  away.setAttribute("aria-label", `${busy ? "Cancel" : "Remove"} ${file.name}`);
  away.title = busy ? "Cancel" : "Remove";
  const part = share(file);
  bar.hidden = part === undefined;
  if (part === null) bar.removeAttribute("value");
  else if (part !== undefined) bar.value = part;
}

function everything() {
  return [...state.files, ...[...sending.values()].filter((one) => !one.unwanted)];
}

function draw() {
  const files = everything();
  const rows = new Map([...list.children].map((item) => [item.dataset.key, item]));
  for (const [old, item] of rows) {
    if (files.some((file) => file.key === old)) continue;
    item.remove();
    if (pictures.has(old)) URL.revokeObjectURL(pictures.get(old));
    pictures.delete(old);
  }
  files.forEach((file, place) => {
    const item = rows.get(file.key) ?? row(file);
    fill(item, file);
    if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
  });
  const others = isLost ? 0 : state.waiting;
  const queue = others
    ? `${others} ${others === 1 ? "file is" : "files are"} waiting, of all visitors.` : "";
  get("queue").textContent = [notice, queue].filter(Boolean).join(" ");
  document.body.classList.toggle("empty", files.length === 0);
  return show(files.find((file) => file.key === chosen));
}

async function choose(file) {
  chosen = file;
  get("refused").textContent = "";
  await draw();
  if (!matchMedia("(max-width: 60rem)").matches) return; // the result stands beside the list
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  report.scrollIntoView({ behavior: isStill ? "instant" : "smooth" });
}

async function discard(file) {
  removed.add(file);
  const answer = await ask(`${home}/files/${file}`, "DELETE");
  if (answer.ok) return;
  notice = answer.text;
  draw();
}

async function remove(file) {
  const places = everything().map((one) => one.key);
  const after = places[places.indexOf(file) + 1] ?? places[places.indexOf(file) - 1] ?? null;
  if (chosen === file) chosen = after;
  if (sending.has(file)) {
    const one = sending.get(file);
    one.unwanted = true;
    if (one.state === "sending" && one.abort) one.abort();
    else sending.delete(file);
    draw();
  } else {
    await discard(file);
  }
  const next = list.querySelector(`[data-key="${after}"] .away`);
  (next ?? picker).focus();
}

// The result

async function show(file) {
  const now = file && `${file.key} ${file.state} ${file.turn} ${file.message ?? ""}`;
  get("again").disabled = file?.state !== "done";
  if (now === shown) return;
  shown = now;
  if (!file) {
    report.innerHTML = welcome;
  } else if (file.state === "refused") {
    report.replaceChildren(message(file, "This file was not sent."));
  } else if (file.state !== "done") {
    report.replaceChildren(make("div", { id: "verdict" }, make("section",
      { className: "verdict waiting" }, make("p", { className: "file", textContent: file.name }),
      make("p", { textContent: "One moment: the result will stand here." }))));
  } else {
    const address = `${home}/files/${file.key}`;
    const answer = await ask(`${address}/report`);
    if (shown !== now) return;
    if (answer.isLost) shown = null; // asked for again with the next state, or when it is chosen
    if (!answer.ok) {
      const headline = answer.isLost ? "The result did not arrive." : "There is no result.";
      return report.replaceChildren(message({ ...file, message: answer.text }, headline));
    }
    report.innerHTML = answer.text;
    if (file.files.includes("archive")) {
      report.querySelector(".verdict").append(make("a", {
        id: "archive", href: `${address}/archive`, download: "",
        textContent: "Download all results" }));
    }
    start(report, address);
  }
}

function message(file, headline) {
  const section = make("section", { className: "verdict failed" },
    make("p", { className: "file", textContent: file.name }),
    make("h2", { textContent: headline }),
    make("p", { textContent: file.message }));
  section.setAttribute("role", "alert");
  return make("div", { id: "verdict" }, section);
}

// What a visitor does

picker.onchange = () => { add(picker.files); picker.value = ""; };
get("camera-open").onclick = () => openCamera((file) => add([file]));
get("again").onclick = async () => {
  if (!get("count").reportValidity()) return;
  const answer = await ask(`${home}/files/${chosen}/again?${options()}`, "POST");
  get("refused").textContent = answer.ok ? "" : answer.text;
};
document.addEventListener("click", async (event) => {
  const example = event.target.closest("[data-example]")?.dataset.example;
  if (!example) return;
  const blob = await (await fetch(example)).blob();
  add([new File([blob], example.split("/").pop(), { type: blob.type })]);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));

// The server

const pause = 3000; // milliseconds, as browsers wait

function listen() {
  const events = new EventSource(`${home}/events`);
  events.onmessage = ({ data }) => follow(JSON.parse(data));
  events.onerror = () => {
    isLost = true;
    notice = "The connection is lost. The list shows what was known before.";
    draw();
    // Browsers connect again by themselves, but not after an answer such as a proxy's 502.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, pause);
  };
  events.addEventListener("refused", ({ data }) => {
    events.close();
    notice = data;
    draw();
  });
}

function follow(now) {
  const kept = new Set(now.files.map((file) => file.key));
  if (state.files.some((file) => !kept.has(file.key) && !removed.has(file.key))) {
    notice = isLost ? "The connection was lost, and your files were deleted meanwhile. Add them again."
      : `Files that were sent ${document.body.dataset.hours} hours ago were deleted.`;
  } else if (isLost) {
    notice = "The connection is back.";
  }
  isLost = false;
  state = now;
  draw();
}

// Leaving the page deletes the files: browsers ask first, once the visitor has touched the page.
function warn(event) {
  if (everything().some((file) => file.state !== "refused")) event.preventDefault();
}

listen();
addEventListener("beforeunload", warn);
addEventListener("pagehide", () => {
  removeEventListener("beforeunload", warn);
  navigator.sendBeacon(`${home}/leave`);
});
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
draw();
