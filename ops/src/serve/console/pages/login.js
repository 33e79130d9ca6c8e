// Where tokens are used: who are you?
import { html, useState } from "../lib/ui.js";
import { send } from "../lib/api.js";
import { plain } from "../lib/text.js";

export function Login({ onDone }) {
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    try {
      await send("POST", "login", { body: { token: new FormData(event.target).get("token").trim() } });
      onDone();
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<main id="main" class="login" tabindex="-1"><form class="sheet pad stack" onSubmit=${submit}>
    <div class="row"><img src="/icon.svg" alt="" width="24" height="24" /><h1>Longhaul</h1></div>
    <label class="label"><span>Your token</span><input class="field mono" type="password" name="token" autocomplete="current-password" placeholder="lh_…" required autofocus />
      <span class="hint">Whoever runs Longhaul makes one: longhaul token create NAME. It is kept by the browser for twelve hours, out of the reach of scripts.</span></label>
    ${error && html`<p role="alert" class="note bad">${plain(error.message)}</p>`}
    <button type="submit" class="button main">Come in</button>
  </form></main>`;
}
