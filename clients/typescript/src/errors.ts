/** What can go wrong with a call, told apart by its SQLSTATE. */
import pg from "pg";

/** An error of the database or of a call. */
export class LonghaulError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** The call is wrong (LH001); the message names the place. */
export class InvalidInput extends LonghaulError {}
/** There is no such run, flow or worker (LH002). */
export class NotFound extends LonghaulError {}
/** The present state does not allow it (LH003). */
export class Refused extends LonghaulError {}
/** It contradicts what is stored (LH004), as another input under an id that is taken. */
export class Conflict extends LonghaulError {}
/** The worker is not registered any more (LH005). */
export class WorkerLost extends LonghaulError {}
/** The database could not be asked, or something passed that will pass: the same call may succeed later. */
export class Unreachable extends LonghaulError {}
/** A run that was waited for has failed or was stopped. */
export class RunFailed extends LonghaulError {}
/** A run that was waited for takes longer. */
export class TimedOut extends LonghaulError {}

/** Any other error of the database. */
export class DatabaseError extends LonghaulError {
  constructor(
    message: string,
    readonly sqlstate: string,
  ) {
    super(message);
  }
}

const OURS: Record<string, new (message: string) => LonghaulError> = {
  LH001: InvalidInput,
  LH002: NotFound,
  LH003: Refused,
  LH004: Conflict,
  LH005: WorkerLost,
};

/** Classes of SQLSTATE that pass by themselves: connection, rollback, resources, operator's intervention, system error. */
const PASSING = ["08", "40", "53", "57", "58"];

/** Classes of SQLSTATE that are about a value: then one item of the call is to blame. */
const ABOUT_VALUES = ["21", "22", "23", "27", "44", "P0", "54"];

/** The error of a call in our words. */
export function translated(error: unknown): LonghaulError {
  if (error instanceof LonghaulError) return error;
  if (error instanceof pg.DatabaseError && error.code) {
    const ours = OURS[error.code];
    if (ours) return new ours(error.message);
    const message = `${error.message} [${error.code}]`;
    if (PASSING.includes(error.code.slice(0, 2)) || error.code === "55P03") return new Unreachable(message);
    return new DatabaseError(message, error.code);
  }
  if (error instanceof TypeError || error instanceof RangeError) return new InvalidInput(error.message);
  return new Unreachable(error instanceof Error ? error.message || error.name : String(error));
}

/** Whether an item of the call is to blame, and not the connection or the installation. */
export function isAboutAnItem(error: LonghaulError): boolean {
  if (error instanceof DatabaseError) return ABOUT_VALUES.includes(error.sqlstate.slice(0, 2));
  return error instanceof InvalidInput || error instanceof NotFound || error instanceof Refused || error instanceof Conflict;
}
