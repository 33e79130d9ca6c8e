/** What a worker says. Nothing, unless it is given a logger. */

/** Takes what a worker says; `console` is one. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

const silent = (): void => undefined;
let chosen: Logger = { debug: silent, info: silent, warn: silent, error: silent };

/** Gives this process a logger. */
export function setLogger(logger: Logger): void {
  chosen = logger;
}

/** The logger of this process. */
export const log: Logger = {
  debug: (message) => chosen.debug(message),
  info: (message) => chosen.info(message),
  warn: (message) => chosen.warn(message),
  error: (message) => chosen.error(message),
};
