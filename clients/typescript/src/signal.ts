/** Tells those who wait that something has changed. */
export class Signal {
  readonly #waiting = new Set<() => void>();

  /** Something has changed. */
  set(): void {
    for (const go of this.#waiting) go();
    this.#waiting.clear();
  }

  /** Resolves with the next change, or after so many milliseconds. */
  async next(within?: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#waiting.add(resolve);
      if (within === undefined) return;
      timer = setTimeout(() => {
        this.#waiting.delete(resolve);
        resolve();
      }, within);
    });
    clearTimeout(timer);
  }
}
