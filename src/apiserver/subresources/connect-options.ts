import type { Api, Call } from '../api.ts';

const flags = ['stdin', 'stdout', 'stderr', 'tty'];
const isTrue = (value: string | null) => value !== null && value !== 'false' && value !== '0';

/** The options of a connection to a pod, node or service, as admission sees them. */
function connectOptions(call: Call, query: URLSearchParams, rest: string): object {
  const kind = call.target.served.subresources.find((s) => s.name === call.subresource)?.kind ?? '';
  const options: Record<string, unknown> = { kind, apiVersion: 'v1' };
  switch (call.subresource) {
    case 'exec':
    case 'attach': {
      for (const flag of flags) if (isTrue(query.get(flag))) options[flag] = true;
      const container = query.get('container');
      if (container) options['container'] = container;
      const command = query.getAll('command');
      if (call.subresource === 'exec' && command.length) options['command'] = command;
      break;
    }
    case 'portforward': {
      const ports = query.getAll('ports').flatMap((p) => p.split(',').map(Number));
      if (ports.length) options['ports'] = ports;
      break;
    }
    case 'proxy':
      if (rest) options['path'] = rest;
  }
  return options;
}

/** Asks admission whether a connection may be made. */
export async function admitConnection(api: Api, call: Call, query: URLSearchParams, rest: string): Promise<void> {
  const admission = api.admission.begin(api, call, 'CONNECT', connectOptions(call, query, rest), undefined);
  await admission.admit();
  await admission.validate();
}
