import { startMoto } from '../../../localstack/host/start.ts';
import { awsContract } from './contract.ts';
import { Peer } from './peer.ts';

// moto's own account, whatever the keys.
const account = '123456789012';

awsContract(
  'moto',
  async () => {
    const { url, stop } = await startMoto();
    return { peer: new Peer(url, account, { accessKeyId: 'test', secretAccessKey: 'test' }), stop };
  },
  900_000,
);
