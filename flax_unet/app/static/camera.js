// Takes a picture with the visitor's camera.

const dialog = document.getElementById("camera");
const film = dialog.querySelector("video"), said = dialog.querySelector("[role=status]");
const shoot = dialog.querySelector(".shoot");

export async function openCamera(take) {
  said.textContent = "Allow this page to use the camera.";
  shoot.disabled = true;
  shoot.onclick = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [film.videoWidth, film.videoHeight];
    canvas.getContext("2d").drawImage(film, 0, 0);
    const name = `camera ${new Date().toLocaleTimeString("en-GB").replaceAll(":", ".")}.jpg`;
    canvas.toBlob((blob) => take(new File([blob], name, { type: blob.type })), "image/jpeg", 0.95);
    dialog.close();
  };
  dialog.showModal();
  if (!navigator.mediaDevices) { // browsers lend it over https only
    said.textContent = "Browsers lend the camera only to pages with https, or on this computer.";
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280 } });
    film.srcObject = stream;
    if (!dialog.open) return stop();
    await film.play();
    said.textContent = "";
    shoot.disabled = false;
    shoot.focus();
  } catch {
    said.textContent = "The camera cannot be used: it is missing, in use, or not allowed.";
  }
}

function stop() {
  for (const track of film.srcObject?.getTracks() ?? []) track.stop();
  film.srcObject = null;
}

dialog.querySelector(".close").onclick = () => dialog.close();
dialog.addEventListener("close", stop);
