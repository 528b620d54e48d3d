// What the app does about analyses: pass it what has to happen, and call `stop` when that is over.
import { WEBSOCKET_EVENTS } from '../constants/websocket';

export default class VideoAnalysisService {
  constructor(webSocketService, { onStarted, onProgress, onCompleted, onFailed } = {}) {
    this.ws = webSocketService;
    this.listeners = [
      [WEBSOCKET_EVENTS.ANALYSIS_STARTED, onStarted],
      [WEBSOCKET_EVENTS.ANALYSIS_PROGRESS, onProgress],
      [WEBSOCKET_EVENTS.ANALYSIS_COMPLETED, onCompleted],
      [WEBSOCKET_EVENTS.ANALYSIS_FAILED, onFailed],
    ].filter(([, listener]) => listener);
    for (const [event, listener] of this.listeners) this.ws.socket.on(event, listener);
  }

  stop() {
    for (const [event, listener] of this.listeners) this.ws.socket.off(event, listener);
  }
}
