/** Milliseconds in which lookups are gathered into one call. */
const gatherMs = 5;

interface Waiting<T> {
  resolve(found: T | undefined): void;
  reject(error: unknown): void;
}

/**
 * Lookups by key that are made in the same moment become one call: many workers that each wait for one instance or volume cost AWS as
 * little as one. A key that the call answers nothing for is undefined.
 */
export class Gather<T> {
  private readonly call: (keys: string[]) => Promise<Map<string, T>>;
  private readonly most: number;
  private waiting = new Map<string, Waiting<T>[]>();
  private scheduled = false;

  /** call answers for at most `most` keys at once. */
  constructor(call: (keys: string[]) => Promise<Map<string, T>>, most = 200) {
    this.call = call;
    this.most = most;
  }

  find(key: string): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const list = this.waiting.get(key);
      if (list) list.push({ resolve, reject });
      else this.waiting.set(key, [{ resolve, reject }]);
      if (this.scheduled) return;
      this.scheduled = true;
      setTimeout(() => void this.answer(), gatherMs);
    });
  }

  private async answer(): Promise<void> {
    this.scheduled = false;
    const asked = [...this.waiting];
    this.waiting = new Map();
    for (let at = 0; at < asked.length; at += this.most) {
      const part = asked.slice(at, at + this.most);
      try {
        const found = await this.call(part.map(([key]) => key));
        for (const [key, list] of part) for (const one of list) one.resolve(found.get(key));
      } catch (error) {
        for (const [, list] of part) for (const one of list) one.reject(error);
      }
    }
  }
}

/** Everything that a paginated call gives. */
export async function everyPage<P, T>(
  call: (token: string | undefined) => Promise<P>,
  items: (page: P) => T[] | undefined,
  next: (page: P) => string | undefined,
): Promise<T[]> {
  const found: T[] = [];
  let token: string | undefined;
  do {
    const page = await call(token);
    found.push(...(items(page) ?? []));
    token = next(page);
  } while (token);
  return found;
}
