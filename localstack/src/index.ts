export {
  getServiceEndpoint,
  getServiceEndpoints,
  getServicePort,
  getServicePorts,
  parseLocalstackHost,
} from './config.ts';
export { disableLocalEndpoints, enableLocalEndpoints } from './patch.ts';
export { client, Session, type SessionOptions } from './session.ts';
