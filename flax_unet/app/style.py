"""How the page looks."""

CSS = """
.gradio-container { --quiet: color-mix(in srgb, var(--body-text-color) 68%, transparent);
  margin: 0 auto; }
.gradio-container .html-container { padding: 0; }
.head h1 { margin: 0; font-size: 1.6rem; }
.head p { margin: .2rem 0 0; color: var(--quiet); }

.real { --ink: #0b7a41; --wash: #0b7a4114; }
.fake { --ink: #c8142f; --wash: #c8142f14; }
.none, .waiting, .welcome { --ink: #6b7280; --wash: #6b728014; }
.failed { --ink: #b45309; --wash: #b4530914; }
.dark .real:not(.box) { --ink: #34c77b; }
.dark .fake:not(.box) { --ink: #ff5c73; }

.verdict { border-left: 6px solid var(--ink); background: var(--wash); border-radius: 8px;
  padding: 1rem 1.25rem; color: var(--body-text-color); overflow-wrap: anywhere; }
.verdict h2 { margin: 0 0 .5rem; font-size: 2.6rem; line-height: 1.1; font-weight: 700;
  color: var(--ink); }
.verdict.failed h2, .verdict.none h2 { font-size: 1.6rem; }
.verdict.waiting { min-height: 8rem; }
.verdict p { margin: .45rem 0 0; }
.verdict .file { margin: 0; color: var(--quiet); }
.verdict .fine { font-size: .85rem; color: var(--quiet); }

.bar { display: grid; grid-template-columns: 2.6rem 1fr 4rem; align-items: center; gap: .6rem;
  max-width: 30rem; margin: .3rem 0; }
.bar > div { height: .7rem; border-radius: .35rem; background: var(--border-color-primary);
  overflow: hidden; }
.bar > div > div { height: 100%; background: var(--ink); }
.bar output { text-align: right; font-variant-numeric: tabular-nums; }

.look { margin: 0; }
.look .layers { position: relative; overflow: hidden; border-radius: 8px; margin: 0 auto;
  width: min(100%, calc(26rem * var(--ratio))); }
.look .photo { display: block; width: 100%; margin: 0; }
.look .heat { position: absolute; max-width: none; margin: 0; opacity: var(--heat, .5); }
.look .box { position: absolute; box-sizing: border-box; border: 2px solid var(--ink); }
.look .box span { position: absolute; left: 0; top: 0; padding: .05rem .4rem; font-size: .85rem;
  white-space: nowrap; color: white; background: var(--ink); }
.look figcaption { margin-top: .5rem; text-align: center; font-size: .85rem;
  color: var(--quiet); }
.look .ramp { display: inline-block; width: 5rem; height: .7em; border-radius: 2px;
  background: linear-gradient(90deg, transparent, rgb(255 108 30 / .5), rgb(255 0 60)); }

.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .8rem; }
.face { margin: 0; font-size: .8rem; color: var(--quiet); }
.face img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; margin: 0 0 .3rem;
  border-radius: 6px; border: 2px solid var(--ink); box-sizing: border-box; }
.face b { color: var(--ink); font-size: .95rem; }
h3 small { font-weight: normal; color: var(--quiet); }
#video { overflow: visible; border: 0; }
#video::before { content: "Overlay video"; display: block; margin: .5rem 0; font-size: 1.1rem;
  font-weight: 600; color: var(--body-text-color); }
#video video { max-height: 26rem; }
.timeline { width: 100%; margin: 0; border-radius: 8px; }
"""
