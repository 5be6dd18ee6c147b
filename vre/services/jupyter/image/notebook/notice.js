// An extension of JupyterLab, written by hand in the form that its builder makes: it shows what the hub's page `notice`
// says of a reboot. It needs nothing of Lab but the command `apputils:notify`, which shows a message as text.
(() => {
  "use strict";
  const MINUTE = 60_000;

  function activate(app) {
    const { hubPrefix } = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    let shown = "";

    async function look() {
      const answer = await fetch(`${hubPrefix}notice`, { cache: "no-store" });
      if (answer.status === 403) {
        clearInterval(timer); // the session is over; whoever logs in again gets a new page
        return;
      }
      const note = answer.ok ? await answer.json() : {};
      if (!note.at || note.at === shown) {
        return;
      }
      const time = new Date(note.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      const message = `${time}: ${note.text}`;
      await app.commands.execute("apputils:notify", { message, type: "warning", options: { autoClose: false } });
      shown = note.at;
    }

    const ask = () => look().catch(() => {}); // the hub is away: the next minute asks again
    const timer = setInterval(ask, MINUTE);
    void app.restored.then(ask);
  }

  const plugin = { id: "vre-notice:plugin", autoStart: true, activate };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["vre-notice"] = {
    init: () => {}, // nothing is shared with Lab's own modules
    get: async () => () => ({ __esModule: true, default: plugin }),
  };
})();
