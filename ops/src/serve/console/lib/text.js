// Names, payloads and errors come from anybody. They are shown as text: what would turn, hide or overwrite its surroundings is
// written out, and nothing is longer than a page can bear.

/** Turns of direction, marks without width, and what ends lines in unexpected places. */
const ODD = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

const written = (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;

/** A text that changes nothing around it. */
export const plain = (text) => String(text ?? "").replace(ODD, written);

/** The same on one line and no longer than this. */
export const short = (text, most = 240) => {
  const line = plain(text).replace(/\s+/g, " ");
  return line.length > most ? `${line.slice(0, most)}…` : line;
};

/** The first and last characters of a long text. */
export const middle = (text, first, last) => {
  const whole = plain(text);
  return whole.length <= first + last + 1 ? whole : `${whole.slice(0, first)}…${whole.slice(-last)}`;
};

/** What an error says, whatever its form. */
export const message = (error) => {
  if (error == null) return "";
  if (typeof error === "string") return error;
  if (typeof error.message === "string") return error.message;
  return JSON.stringify(error);
};
