// Runs the worker of the search in a hidden frame where the site is opened from a folder: browsers start no Web Workers there.
// The theme would fetch one by this name from the network (mkdocs.yml, `polyfills`).
if (location.protocol === "file:") {
  const load = (target, url) =>
    new Promise((done, failed) => {
      const script = target.createElement("script");
      script.src = new URL(url, location.href);
      script.onload = done;
      script.onerror = () => failed(new ReferenceError(`cannot load ${url}`));
      target.body.append(script);
    });

  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<!doctype html>";
      this.ready = new Promise((done) => (this.frame.onload = done)).then(() => {
        const inside = this.frame.contentWindow;
        inside.postMessage = (data) => setTimeout(() => this.receive(data));
        inside.importScripts = (...urls) =>
          urls.reduce((before, one) => before.then(() => load(inside.document, one)), Promise.resolve());
        return load(inside.document, url);
      });
      document.body.append(this.frame);
    }

    receive(data) {
      const event = new MessageEvent("message", { data });
      if (this.onmessage) this.onmessage(event);
      this.dispatchEvent(event);
    }

    postMessage(data) {
      const inside = this.frame.contentWindow;
      this.ready.then(() => inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
