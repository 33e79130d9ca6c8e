// From times to places. Long stretches in which nothing runs are folded, so that what runs can be seen.

/** A stretch is folded when it is longer than this share of all, and long enough to be worth it. */
const FOLDED = 0.2;
const LONG = 10_000;
/** A folded stretch takes this share of the width. */
const KEPT = 0.09;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000, 604_800_000, 2_592_000_000];
const TICKS = 7;

/** Stretches in which something runs, joined where they meet. */
const joined = (stretches) => {
  const found = [];
  for (const { from, to } of [...stretches].sort((a, b) => a.from - b.from)) {
    const last = found.at(-1);
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else found.push({ from, to });
  }
  return found;
};

/** The pieces of the axis: { from, to, folded }. */
const piecesOf = (from, to, busy, folds) => {
  if (!folds || !busy.length) return [{ from, to, folded: false }];
  const pieces = [];
  let at = from;
  const rest = (until) => {
    const folded = until - at > Math.max(LONG, FOLDED * (to - from));
    if (until > at) pieces.push({ from: at, to: until, folded });
  };
  for (const stretch of busy) {
    rest(stretch.from);
    pieces.push({ ...stretch, folded: false });
    at = stretch.to;
  }
  rest(to);
  return pieces.some((piece) => piece.folded) ? pieces : [{ from, to, folded: false }];
};

/** A scale from `from` to `to`: `place(time)` is 0 to 100; `ticks`: [{ at, time }]; `folds`: [{ left, width, length }]. */
export const scaleOf = (from, to, running, folds = true) => {
  const pieces = piecesOf(from, to, joined(running.map((one) => ({ from: Math.max(from, one.from), to: Math.min(to, Math.max(one.to, one.from + 1)) }))), folds);
  const open = Math.max(1, pieces.filter((piece) => !piece.folded).reduce((sum, piece) => sum + piece.to - piece.from, 0));
  const room = 100 * (1 - KEPT * pieces.filter((piece) => piece.folded).length);
  let left = 0;
  for (const piece of pieces) {
    piece.left = left;
    piece.width = piece.folded ? 100 * KEPT : (room * (piece.to - piece.from)) / open;
    left += piece.width;
  }
  const place = (time) => {
    const piece = pieces.find((one) => time <= one.to) ?? pieces.at(-1);
    return piece.left + (piece.width * Math.min(1, Math.max(0, time - piece.from) / Math.max(1, piece.to - piece.from)));
  };
  const step = STEPS.find((one) => open / one <= TICKS) ?? STEPS.at(-1);
  const ticks = pieces.filter((piece) => !piece.folded).flatMap((piece) => {
    const first = Math.ceil((piece.from - from) / step);
    const last = Math.floor((piece.to - from) / step);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => ({ time: (first + index) * step, at: place(from + (first + index) * step) }));
  });
  // Where a folded stretch says how long it is, no tick does.
  const near = (at) => pieces.some((piece) => piece.folded && Math.abs(piece.left + piece.width / 2 - at) < 10);
  return { place, ticks: ticks.filter((tick) => !near(tick.at)).slice(0, 40), folds: pieces.filter((piece) => piece.folded).map((piece) => ({ left: piece.left, width: piece.width, length: piece.to - piece.from })) };
};
