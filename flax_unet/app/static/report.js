// A result: the strength of the heat map, video or moment, and the timeline that seeks.

export function start(report, address) {
  const film = report.querySelector("#video video");
  if (film) film.src = `${address}/${film.dataset.file}`;
  for (const range of report.querySelectorAll("input[type=range]")) {
    range.oninput = () => report.style.setProperty("--heat", range.value / 100);
  }
  for (const tab of report.querySelectorAll(".tabs button")) {
    tab.onclick = () => turnTo(report, tab.dataset.shows);
  }
  for (const lane of report.querySelectorAll(".lane[role=slider]")) follow(report, lane, film);
}

function turnTo(report, name) {
  for (const tab of report.querySelectorAll(".tabs button")) {
    const on = tab.dataset.shows === name;
    tab.setAttribute("aria-pressed", on);
    report.querySelector(`#${tab.dataset.shows}`).hidden = !on;
  }
}

function follow(report, lane, film) {
  const length = Number(lane.getAttribute("aria-valuemax"));
  const points = JSON.parse(lane.dataset.points); // [seconds in the film, what it says there]

  function place() { // of the last frame that was judged by now; -1 before the first
    return points.findLastIndex(([seconds]) => seconds <= film.currentTime + 0.02);
  }

  function go(seconds) {
    turnTo(report, "video");
    film.pause();
    film.currentTime = Math.min(Math.max(0, seconds), length);
  }

  function mark() {
    const now = film.currentTime, at = place();
    lane.style.setProperty("--now", `${(100 * now) / length}%`);
    lane.setAttribute("aria-valuenow", now.toFixed(3));
    lane.setAttribute("aria-valuetext", at < 0 ? `${now.toFixed(1)} s` : points[at][1]);
  }

  function drag(event) {
    const { left, width } = lane.getBoundingClientRect();
    go((length * (event.clientX - left)) / width);
  }

  lane.onpointerdown = (event) => {
    lane.setPointerCapture(event.pointerId);
    lane.focus();
    drag(event);
  };
  lane.onpointermove = (event) => {
    if (lane.hasPointerCapture(event.pointerId)) drag(event);
  };
  lane.onkeydown = (event) => {
    const last = points.length - 1, at = place();
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1,
      PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    go(points[Math.min(Math.max(0, at + step), last)][0] + 0.01); // within the frame
  };
  for (const event of ["timeupdate", "seeking", "seeked", "loadedmetadata"]) {
    film.addEventListener(event, mark);
  }
  mark();
}
