import { Agent, request } from 'node:https';

export interface Exchange {
  method: string;
  path: string;
  headers?: Record<string, string>;
  /** Sent as it is where text, else as JSON. */
  body?: unknown;
}

export interface Answer {
  status: number;
  /** Texts of the Warning headers. */
  warnings: string[];
  text: string;
  /** The body where it is JSON. */
  json: any;
}

/** Requests over kept connections to one API server. */
export class Connection {
  readonly address: string;
  #agent: Agent;

  constructor(address: string, tls: { ca: string; cert: string; key: string }) {
    this.address = address;
    this.#agent = new Agent({ keepAlive: true, maxSockets: 8, ...tls });
  }

  send(o: Exchange): Promise<Answer> {
    const body = o.body === undefined ? undefined : typeof o.body === 'string' ? o.body : JSON.stringify(o.body);
    const headers = { ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }), ...o.headers };
    return new Promise((resolve, reject) => {
      const sent = request(`${this.address}${o.path}`, { method: o.method, headers, agent: this.#agent }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          let json: any;
          try {
            json = JSON.parse(text);
          } catch {
            // Not every answer is JSON.
          }
          resolve({ status: response.statusCode ?? 0, warnings: warningsOf(response.rawHeaders), text, json });
        });
      });
      sent.on('error', (error) => reject(new Error(`${o.method} ${o.path}: ${error.message}`, { cause: error })));
      sent.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

function warningsOf(raw: string[]): string[] {
  const texts: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]?.toLowerCase() !== 'warning') continue;
    for (const match of raw[i + 1]!.matchAll(/299 - "((?:[^"\\]|\\.)*)"/g)) texts.push(match[1]!.replace(/\\(.)/g, '$1'));
  }
  return texts;
}
