import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Cloud } from '../cloud.ts';

export class Registry {
  static async open(_cloud: Cloud): Promise<Registry> {
    return new Registry();
  }

  async answer(_message: IncomingMessage, response: ServerResponse): Promise<void> {
    response.writeHead(404).end();
  }
}
